/* Stands before the header of Linux's tests of this name, which switches on the checks of the maple tree. */
#include "shared.h"
#include <stdlib.h>
#include <time.h>
#include "linux/init.h"
