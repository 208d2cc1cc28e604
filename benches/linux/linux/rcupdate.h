/* Stands before the header of Linux's tools of this name: one thread reads and writes, so that read sections cost nothing, as in a kernel without
 * preemption, and what waits for readers waits in a ring. */
#ifndef MMKIT_BENCH_RCUPDATE_H
#define MMKIT_BENCH_RCUPDATE_H

#include <urcu.h>

#undef rcu_read_lock
#undef rcu_read_unlock
#undef call_rcu

#define rcu_read_lock() __asm__ volatile("" ::: "memory")
#define rcu_read_unlock() __asm__ volatile("" ::: "memory")
#define call_rcu(head, function) bench_call_rcu(head, function)
#define rcu_dereference_raw(p) rcu_dereference(p)
#define rcu_dereference_protected(p, condition) rcu_dereference(p)
#define rcu_dereference_check(p, condition) rcu_dereference(p)
#define RCU_INIT_POINTER(p, v) ((void)((p) = (v)))

void bench_call_rcu(struct rcu_head *head, void (*function)(struct rcu_head *));

#endif
