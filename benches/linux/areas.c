/* Linux's own bookkeeping of areas, built in user space from a source tree of 6.12 that the user names: its maple tree as an address space uses it, and
 * mm/vma.c around it. Prints the nanoseconds of `areas stores N` (find, insert, erase, split and restore, highest gap) or of `areas calls N` (pairs: munmap
 * in the middle and mmap, mprotect in the middle and back, mmap and munmap) on one line. Same areas and order of columns as mmkit's.
 *
 * Nothing of Linux is in this file; what is built of it and of Linux's tree is under Linux's licence, and stays where it was built. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "maple-shared.h"

/* Areas come from a pool too. Checks that a kernel leaves out are left out. */
static void *area_alloc(size_t size);
static void area_free(void *area);
#define calloc(count, size) area_alloc(size)
#define free(area) area_free(area)
#include "vma_internal.h"
#undef VM_WARN_ON
#undef VM_WARN_ON_ONCE
#undef VM_BUG_ON
#undef VM_BUG_ON_VMA
#define VM_WARN_ON(condition) ((void)0)
#define VM_WARN_ON_ONCE(condition) ((void)0)
#define VM_BUG_ON(condition) ((void)0)
#define VM_BUG_ON_VMA(condition, vma) ((void)0)
#include "../../../mm/vma.h"
#include "../../../mm/vma.c"
#undef calloc
#undef free

enum { PAIRS = 20000, SEARCHES = 20000, LEAST_VISITS = 20000, GAP_PAGES = 8, POOLS = 64 };

static const unsigned long PAGE = 4096, LOWEST = 0x10000, AREAS_START = 0x700000000000;
static const unsigned long ANONYMOUS = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE;

const struct vm_operations_struct vma_dummy_vm_ops;

static struct task_struct task;

struct task_struct *get_current(void)
{
    return &task;
}

/* Not in the user-space headers of every stable version of 6.12. */
#pragma weak vma_close
void vma_close(struct vm_area_struct *vma)
{
}

static void *pools[POOLS];

static void *area_alloc(size_t size)
{
    /* The size stands before the object. */
    size_t class = (size + 15) / 16 % POOLS;
    char *object = pools[class];

    if (object)
        pools[class] = *(void **)object;
    else
        object = (char *)malloc(size + 16) + 16;
    ((size_t *)object)[-1] = class;
    return memset(object, 0, size);
}

static void area_free(void *area)
{
    size_t class = ((size_t *)area)[-1];

    *(void **)area = pools[class];
    pools[class] = area;
}

static unsigned long random_state = 88172645463325252;

static unsigned long random_below(unsigned long limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "areas: %s failed\n", what);
    exit(1);
}

/* The starts of `count` areas of four pages with a hole of a page behind each, `orders` times over, each time in a random order. */
static unsigned long *random_starts(unsigned long first, unsigned long count, unsigned long orders)
{
    unsigned long *starts = malloc(count * orders * sizeof *starts);

    for (unsigned long order = 0; order < orders; order++) {
        unsigned long *row = starts + order * count;

        for (unsigned long at = 0; at < count; at++)
            row[at] = first + at * 5 * PAGE;
        for (unsigned long at = count - 1; at > 0; at--) {
            unsigned long other = random_below(at + 1), start = row[at];

            row[at] = row[other];
            row[other] = start;
        }
    }
    return starts;
}

/* An entry that no node is taken for. */
static void *entry_of(unsigned long start)
{
    return (void *)(start | 2);
}

static void store(struct maple_tree *tree, unsigned long start, unsigned long end, void *entry)
{
    MA_STATE(state, tree, start, end - 1);

    if (mas_store_gfp(&state, entry, GFP_KERNEL))
        fail("a store");
}

static void find_all(struct maple_tree *tree, const unsigned long *starts, unsigned long count)
{
    for (unsigned long at = 0; at < count; at++) {
        MA_STATE(state, tree, starts[at] + PAGE, starts[at] + PAGE);

        if (mas_walk(&state) != entry_of(starts[at]))
            fail("find");
    }
}

static void insert_all(struct maple_tree *tree, const unsigned long *starts, unsigned long count)
{
    for (unsigned long at = 0; at < count; at++)
        store(tree, starts[at], starts[at] + 4 * PAGE, entry_of(starts[at]));
}

static void erase_all(struct maple_tree *tree, const unsigned long *starts, unsigned long count)
{
    for (unsigned long at = 0; at < count; at++) {
        MA_STATE(state, tree, starts[at], starts[at]);

        if (!mas_erase(&state))
            fail("erase");
    }
}

static void split_all(struct maple_tree *tree, const unsigned long *starts, unsigned long count)
{
    for (unsigned long at = 0; at < count; at++) {
        unsigned long start = starts[at], middle = start + PAGE, end = start + 4 * PAGE;

        store(tree, middle, end, entry_of(middle));
        store(tree, start, end, entry_of(start));
    }
}

static void search_gaps(struct maple_tree *tree, unsigned long end)
{
    for (int search = 0; search < SEARCHES; search++) {
        MA_STATE(state, tree, 0, 0);

        if (mas_empty_area_rev(&state, LOWEST, end - 1, GAP_PAGES * PAGE) || state.last + 1 != AREAS_START)
            fail("the gap search");
    }
}

/* Half of the areas come and go, as often as makes enough operations. */
static void come_and_go(struct maple_tree *tree, const unsigned long *starts, unsigned long count, double *insert, double *erase)
{
    unsigned long coming = count - count / 2, repeats = (LEAST_VISITS + coming - 1) / coming;
    const unsigned long *half = starts + count / 2;
    unsigned long *going = malloc(coming * sizeof *going);

    for (unsigned long at = 0; at < coming; at++)
        going[at] = half[(at * 7919 + 1) % coming];
    /* A step that shares a factor with the count would visit some twice. */
    if (coming % 7919 == 0)
        memcpy(going, half, coming * sizeof *going);
    *insert = *erase = 0;
    for (unsigned long repeat = 0; repeat < repeats; repeat++) {
        double start = now(), between;

        erase_all(tree, going, coming);
        between = now();
        insert_all(tree, half, coming);
        *erase += (between - start) / coming / repeats;
        *insert += (now() - between) / coming / repeats;
    }
    free(going);
}

static void stores(unsigned long count)
{
    unsigned long orders = (LEAST_VISITS + count - 1) / count, visits = count * orders;
    unsigned long *starts = random_starts(AREAS_START, count, 1), *visit = random_starts(AREAS_START, count, orders);
    struct maple_tree tree;
    double start, find, insert, erase, split, gap;

    mt_init_flags(&tree, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU);
    insert_all(&tree, starts, count);
    find_all(&tree, visit, visits);
    start = now();
    find_all(&tree, visit, visits);
    find = (now() - start) / visits;
    come_and_go(&tree, starts, count, &insert, &erase);
    start = now();
    split_all(&tree, visit, visits);
    split = (now() - start) / visits / 2;
    start = now();
    search_gaps(&tree, AREAS_START + count * 5 * PAGE);
    gap = (now() - start) / SEARCHES;
    printf("%f %f %f %f %f\n", find, insert, erase, split, gap);
}

static int map(struct mm_struct *mm, unsigned long start, unsigned long end)
{
    VMA_ITERATOR(iterator, mm, start);
    struct vma_merge_struct merge = { .mm = mm, .vmi = &iterator, .start = start, .end = end, .flags = ANONYMOUS, .pgoff = start / PAGE };
    struct vm_area_struct *area;

    mm->total_vm += (end - start) / PAGE;
    merge.next = vma_next(&iterator);
    merge.prev = vma_prev(&iterator);
    if (merge.prev)
        vma_iter_next_range(&iterator);
    if (vma_merge_new_range(&merge))
        return 0;
    area = vm_area_alloc(mm);
    if (!area)
        return -1;
    area->vm_start = start;
    area->vm_end = end;
    area->vm_pgoff = start / PAGE;
    area->__vm_flags = ANONYMOUS;
    vma_iter_config(&iterator, start, end);
    if (vma_iter_prealloc(&iterator, area))
        return -1;
    vma_start_write(area);
    vma_iter_store(&iterator, area);
    mm->map_count++;
    return 0;
}

static int unmap(struct mm_struct *mm, unsigned long start, unsigned long len)
{
    VMA_ITERATOR(iterator, mm, start);

    return do_vmi_munmap(&iterator, mm, start, len, NULL, false);
}

static int protect(struct mm_struct *mm, unsigned long start, unsigned long len, unsigned long flags)
{
    VMA_ITERATOR(iterator, mm, start);
    struct vm_area_struct *area = vma_find(&iterator, start + len), *before = vma_prev(&iterator);

    area = vma_find(&iterator, start + len);
    area = vma_modify_flags(&iterator, start > area->vm_start ? area : before, area, start, start + len, flags);
    if (IS_ERR(area))
        return -1;
    vma_start_write(area);
    area->__vm_flags = flags;
    return 0;
}

static int pair(struct mm_struct *mm, int which, unsigned long area, unsigned long end)
{
    unsigned long middle = area + PAGE, len = GAP_PAGES * PAGE, start;

    if (which == 0)
        return unmap(mm, middle, PAGE) || map(mm, middle, middle + PAGE);
    if (which == 1)
        return protect(mm, middle, PAGE, ANONYMOUS & ~VM_WRITE) || protect(mm, middle, PAGE, ANONYMOUS);
    MA_STATE(state, &mm->mm_mt, 0, 0);
    if (mas_empty_area_rev(&state, LOWEST, end - 1, len))
        return -1;
    start = state.last + 1 - len;
    return map(mm, start, start + len) || unmap(mm, start, len);
}

static void calls(unsigned long count)
{
    static struct mm_struct mm = { .data_vm = 1ul << 40, .total_vm = 1ul << 40 };
    unsigned long end = AREAS_START + count * 5 * PAGE;

    mt_init_flags(&mm.mm_mt, MT_FLAGS_ALLOC_RANGE | MT_FLAGS_USE_RCU);
    task.mm = &mm;
    for (unsigned long start = AREAS_START; start < end; start += 5 * PAGE)
        if (map(&mm, start, start + 4 * PAGE))
            fail("mmap");
    for (int which = 0; which < 3; which++) {
        double start = now();

        for (int at = 0; at < PAIRS; at++)
            if (pair(&mm, which, AREAS_START + random_below(count) * 5 * PAGE, end))
                fail("a pair of calls");
        printf(which == 2 ? "%f\n" : "%f ", (now() - start) / PAIRS);
        if ((unsigned long)mm.map_count != count)
            fail("a pair that leaves the areas as they were");
    }
}

int main(int argc, char **argv)
{
    unsigned long count = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;

    if (count < 2) {
        fprintf(stderr, "usage: areas stores|calls NUMBER\n");
        return 2;
    }
    maple_tree_init();
    if (strcmp(argv[1], "stores") == 0)
        stores(count);
    else
        calls(count);
    return 0;
}
