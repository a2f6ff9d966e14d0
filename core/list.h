/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * list.h - circular doubly linked lists whose links lie inside their members.
 *
 * A list is a struct list_head that stands alone; so is a member's link while
 * it is on no list, if it was initialised.  Nothing here allocates.
 */
#ifndef CORE_LIST_H
#define CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_head {
	struct list_head *next, *prev; /* borrowed: the neighbours */
};

/* The object of `type` whose field `member` is at `ptr`. */
#ifndef container_of
#	define container_of(ptr, type, member)                                \
		((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#endif

#define LIST_HEAD_INIT(name)                                                   \
	{                                                                      \
		&(name), &(name)                                               \
	}
#define LIST_HEAD(name) struct list_head name = LIST_HEAD_INIT(name)

static inline void
INIT_LIST_HEAD(struct list_head *list)
{
	list->next = list;
	list->prev = list;
}

/* Insert `entry` at the front. */
static inline void
list_add(struct list_head *entry, struct list_head *list)
{
	entry->next = list->next;
	entry->prev = list;
	list->next->prev = entry;
	list->next = entry;
}

/* Append `entry` at the back. */
static inline void
list_add_tail(struct list_head *entry, struct list_head *list)
{
	list_add(entry, list->prev);
}

/* Unlink; the entry may not be used until it is added or initialised again. */
static inline void
list_del(struct list_head *entry)
{
	entry->prev->next = entry->next;
	entry->next->prev = entry->prev;
}

/* Unlink and leave the entry alone on itself, so that unlinking again and
 * list_empty() are safe. */
static inline void
list_del_init(struct list_head *entry)
{
	list_del(entry);
	INIT_LIST_HEAD(entry);
}

static inline bool
list_empty(const struct list_head *list)
{
	return list->next == list;
}

static inline bool
list_is_last(const struct list_head *entry, const struct list_head *list)
{
	return entry->next == list;
}

static inline void
list_move_tail(struct list_head *entry, struct list_head *list)
{
	list_del(entry);
	list_add_tail(entry, list);
}

/* Append all of `from` to `to`; `from` is empty afterwards. */
static inline void
list_splice_tail_init(struct list_head *from, struct list_head *to)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	INIT_LIST_HEAD(from);
}

#define list_entry(ptr, type, member) container_of(ptr, type, member)

#define list_first_entry(list, type, member)                                   \
	list_entry((list)->next, type, member)

#define list_for_each(pos, list)                                               \
	for ((pos) = (list)->next; (pos) != (list); (pos) = (pos)->next)

#define list_for_each_safe(pos, spare, list)                                   \
	for ((pos) = (list)->next, (spare) = (pos)->next; (pos) != (list);     \
	     (pos) = (spare), (spare) = (pos)->next)

#define list_for_each_entry(pos, list, member)                                 \
	for ((pos) = list_entry((list)->next, __typeof__(*(pos)), member);     \
	     &(pos)->member != (list);                                         \
	     (pos) = list_entry((pos)->member.next, __typeof__(*(pos)),        \
				member))

/* As list_for_each_entry, and `pos` may be unlinked by the body. */
#define list_for_each_entry_safe(pos, spare, list, member)                     \
	for ((pos) = list_entry((list)->next, __typeof__(*(pos)), member),     \
	    (spare) = list_entry((pos)->member.next, __typeof__(*(pos)),       \
				 member);                                      \
	     &(pos)->member != (list); (pos) = (spare),                        \
	    (spare) = list_entry((spare)->member.next, __typeof__(*(spare)),   \
				 member))

#endif
