/* Memory for Linux's maple tree in user space: a list of free objects a cache, without locks or counters, so that the measured figures are the tree's. */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <linux/gfp.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

enum { CHUNK = 1 << 20, CACHE_LINE = 64, WAITING = 256 };

int nr_allocated, preempt_count, test_verbose, kmalloc_verbose;

struct kmem_cache {
    size_t size;
    void *free;
    char *chunk;
    size_t left;
    void (*constructor)(void *);
};

struct kmem_cache *kmem_cache_create(const char *name, unsigned size, unsigned align, unsigned flags, void (*constructor)(void *))
{
    struct kmem_cache *cache = calloc(1, sizeof *cache);
    size_t unit = align ? align : CACHE_LINE;

    cache->size = (size + unit - 1) / unit * unit;
    cache->constructor = constructor;
    return cache;
}

void *kmem_cache_alloc_lru(struct kmem_cache *cache, struct list_lru *lru, int gfp)
{
    void *object = cache->free;

    if (object) {
        cache->free = *(void **)object;
    } else {
        if (cache->left < cache->size) {
            cache->chunk = aligned_alloc(4096, CHUNK);
            cache->left = CHUNK;
        }
        object = cache->chunk;
        cache->chunk += cache->size;
        cache->left -= cache->size;
    }
    if (cache->constructor)
        cache->constructor(object);
    if (gfp & __GFP_ZERO)
        memset(object, 0, cache->size);
    return object;
}

void kmem_cache_free(struct kmem_cache *cache, void *object)
{
    *(void **)object = cache->free;
    cache->free = object;
}

int kmem_cache_alloc_bulk(struct kmem_cache *cache, gfp_t gfp, size_t count, void **objects)
{
    for (size_t at = 0; at < count; at++)
        objects[at] = kmem_cache_alloc_lru(cache, NULL, gfp);
    return count;
}

void kmem_cache_free_bulk(struct kmem_cache *cache, size_t count, void **objects)
{
    for (size_t at = 0; at < count; at++)
        kmem_cache_free(cache, objects[at]);
}

void *kmalloc(size_t size, gfp_t gfp)
{
    return gfp & __GFP_ZERO ? calloc(1, size) : malloc(size);
}

void kfree(void *object)
{
    free(object);
}

/* An operation reads nodes that it has replaced; none has as many as the ring. */
void bench_call_rcu(struct rcu_head *head, void (*function)(struct rcu_head *))
{
    static struct {
        struct rcu_head *head;
        void (*function)(struct rcu_head *);
    } ring[WAITING];
    static unsigned next;
    unsigned at = next++ % WAITING;
    struct rcu_head *due = ring[at].head;
    void (*due_function)(struct rcu_head *) = ring[at].function;

    ring[at].head = head;
    ring[at].function = function;
    if (due)
        due_function(due);
}
