/* Linux's maple tree as a file of its own, as in a kernel. */
#include "maple-shared.h"
#include "../../../lib/maple_tree.c"
