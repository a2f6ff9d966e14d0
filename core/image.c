/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * image - opening, closing and describing a stack of images; see image.h.
 * What happens to requests on their way through it stands in
 * image_request.c.
 *
 * The stack is opened bottom-up, so that a filter finds the size of what lies
 * below it: first the leaf, then its parents, then the filters.
 */
#include "core/image.h"

#include <assert.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/blktaplib.h"
#include "core/reason.h"
#include "core/ticket.h"

#define FILTERS_MAX 16 /* in one name */

static const struct driver_type *
find_type(const struct driver_type *types, const char *name, size_t length)
{
	for (; types->name != NULL; types++) {
		if (strlen(types->name) == length &&
		    memcmp(types->name, name, length) == 0)
			return types;
	}
	return NULL;
}

static const struct driver_type *
find_number(const struct driver_type *types, int drivertype)
{
	for (; types->name != NULL; types++) {
		if (types->drivertype == drivertype)
			return types;
	}
	return NULL;
}

static void
image_destroy(td_image_t *image)
{
	if (image == NULL)
		return;
	if (image->driver != NULL) {
		free(image->driver->data);
		free(image->driver->name);
		free(image->driver);
	}
	free(image->tickets);
	free(image);
}

static td_image_t *
image_create(struct image_stack *stack, const struct driver_type *type,
	     const char *name, td_flag_t flags)
{
	td_image_t *image = calloc(1, sizeof(*image));
	td_driver_t *driver = calloc(1, sizeof(*driver));
	size_t data_size = (size_t)type->ops->private_data_size;

	if (image == NULL || driver == NULL) {
		free(image);
		free(driver);
		return NULL;
	}
	image->driver = driver;
	image->type = type->name;
	image->flags = flags;
	image->stack = stack;
	driver->ops = type->ops;
	driver->image = image;
	driver->io = stack->io;
	driver->name = strdup(name);
	driver->data = calloc(1, data_size > 0 ? data_size : 1);
	driver->state = flags & TD_OPEN_RDONLY ? TD_DRIVER_RDONLY : 0;
	image->tickets = malloc(sizeof(*image->tickets));
	if (driver->name == NULL || driver->data == NULL ||
	    image->tickets == NULL) {
		image_destroy(image);
		return NULL;
	}
	tickets_init(image->tickets);
	return image;
}

/* The driver's word on its size, made whole and checked. */
static int
check_info(td_image_t *image, struct reason *reason)
{
	td_disk_info_t *info = &image->driver->info;

	if (info->sector_size == 0)
		info->sector_size = DEFAULT_SECTOR_SIZE;
	if (info->sector_size != 512 && info->sector_size != 4096)
		return reason_set(reason, -EINVAL,
				  "%s:%s: sectors of %llu bytes cannot be "
				  "served (512 and 4096 can)",
				  image->type, image->driver->name,
				  (unsigned long long)info->sector_size);
	if (info->size == 0 || info->size > (INT64_MAX >> SECTOR_SHIFT) ||
	    (info->size << SECTOR_SHIFT) % info->sector_size != 0)
		return reason_set(reason, -EINVAL,
				  "%s:%s: a size of %llu sectors cannot be "
				  "served with sectors of %llu bytes",
				  image->type, image->driver->name,
				  (unsigned long long)info->size,
				  (unsigned long long)info->sector_size);
	image->info = *info;
	return 0;
}

static int
image_open(td_image_t *image, struct reason *reason)
{
	td_driver_t *driver = image->driver;
	struct reason why = { .text = "" };
	int r;

	if (image->filter && image->below != NULL)
		driver->info = image->below->info;
	driver->reason = &why;
	r = driver->ops->td_open(driver, driver->name, image->flags);
	driver->reason = NULL;
	if (r != 0) {
		r = r > 0 ? -r : r;
		return reason_set(reason, r, "%s:%s: %s", image->type,
				  driver->name, reason_text(&why, r));
	}
	driver->state |= TD_DRIVER_OPEN;
	return check_info(image, reason);
}

static int
image_close(td_image_t *image)
{
	td_driver_t *driver = image->driver;
	int r = 0;

	if (driver->state & TD_DRIVER_OPEN) {
		r = driver->ops->td_close(driver);
		driver->state &= ~TD_DRIVER_OPEN;
	}
	return r > 0 ? -r : r;
}

/* Put an opened or about to be opened image at the bottom. */
static int
stack_push(struct image_stack *stack, td_image_t *image, struct reason *reason)
{
	if (stack->count == IMAGE_DEPTH_MAX)
		return reason_set(reason, -ELOOP,
				  "%s:%s: more than %d images in a chain: the "
				  "parents may form a loop",
				  image->type, image->driver->name,
				  IMAGE_DEPTH_MAX);
	stack->images[stack->count++] = image;
	return 0;
}

/* Open the parents under images[leaf], as far as they go. */
static int
open_parents(struct image_stack *stack, struct reason *reason)
{
	td_flag_t flags = TD_OPEN_RDONLY | TD_OPEN_SHAREABLE;

	flags |= stack->images[stack->leaf]->flags &
		 (TD_OPEN_QUERY | TD_OPEN_NO_O_DIRECT);
	for (;;) {
		td_image_t *child = stack->images[stack->count - 1];
		td_disk_id_t id = { .name = NULL, .drivertype = -1 };
		const struct driver_type *type;
		td_image_t *parent;
		int r = child->driver->ops->td_get_parent_id(child->driver,
							     &id);

		if (r == TD_NO_PARENT)
			return 0;
		if (r != 0)
			return reason_set(reason, r > 0 ? -r : r,
					  "%s:%s: its parent cannot be told",
					  child->type, child->driver->name);
		type = find_number(stack->types, id.drivertype);
		if (type == NULL || id.name == NULL) {
			free(id.name);
			return reason_set(reason, -ENOENT,
					  "%s:%s: its parent is of type number "
					  "%d, for which there is no driver",
					  child->type, child->driver->name,
					  id.drivertype);
		}
		parent = image_create(stack, type, id.name, flags);
		free(id.name);
		if (parent == NULL)
			return -ENOMEM;
		r = stack_push(stack, parent, reason);
		if (r < 0) {
			image_destroy(parent);
			return r;
		}
		child->below = parent;
		r = image_open(parent, reason);
		if (r < 0)
			return r;
	}
}

/* Bottom-up, as blktap2 did, though it ignored the answer. */
static int
validate_parents(struct image_stack *stack, struct reason *reason)
{
	for (int i = stack->count - 2; i >= stack->leaf; i--) {
		td_driver_t *child = stack->images[i]->driver;
		td_driver_t *parent = stack->images[i + 1]->driver;
		int r;

		if (child->ops->td_validate_parent == NULL)
			continue;
		r = child->ops->td_validate_parent(child, parent, 0);
		if (r != 0)
			return reason_set(reason, r > 0 ? -r : r,
					  "%s: %s is not the parent that it "
					  "was made over",
					  child->name, parent->name);
	}
	return 0;
}

/* Create, not yet open, the images that `name` spells out. */
static int
parse_name(struct image_stack *stack, char *name, td_flag_t flags,
	   struct reason *reason)
{
	char *rest = name, *part;

	while ((part = strsep(&rest, "|")) != NULL) {
		size_t length = strcspn(part, ":");
		const struct driver_type *type;
		td_image_t *image;

		if (part[length] == '\0')
			return reason_set(reason, -EINVAL,
					  "'%s' names no image: write "
					  "type:path, for example "
					  "aio:/srv/disk.img",
					  part);
		type = find_type(stack->types, part, length);
		if (type == NULL)
			return reason_set(reason, -ENOENT,
					  "there is no driver '%.*s': "
					  "tapdisk --help lists them",
					  (int)length, part);
		if (stack->count == FILTERS_MAX)
			return reason_set(reason, -E2BIG,
					  "more than %d images in one name",
					  FILTERS_MAX);
		image = image_create(stack, type, part + length + 1, flags);
		if (image == NULL)
			return -ENOMEM;
		image->filter = rest != NULL;
		if (stack->count > 0)
			stack->images[stack->count - 1]->below = image;
		stack->images[stack->count++] = image;
	}
	stack->leaf = stack->count - 1;
	return 0;
}

/* TD_OPEN_LOG_DIRTY: what notes changes stands on top, unless the name says so
 * itself. */
static int
put_log_on_top(struct image_stack *stack, td_flag_t flags,
	       struct reason *reason)
{
	const struct driver_type *type =
		find_number(stack->types, DISK_TYPE_LOG);
	td_image_t *image;

	if (type == NULL)
		return reason_set(reason, -ENOENT,
				  "there is no driver that tracks changes");
	for (int i = 0; i < stack->count; i++) {
		if (strcmp(stack->images[i]->type, type->name) == 0)
			return 0;
	}
	if (stack->count == FILTERS_MAX)
		return reason_set(reason, -E2BIG,
				  "more than %d images in one name",
				  FILTERS_MAX);
	image = image_create(stack, type, "", flags);
	if (image == NULL)
		return -ENOMEM;
	image->filter = true;
	image->below = stack->images[0];
	memmove(&stack->images[1], &stack->images[0],
		(size_t)stack->count * sizeof(stack->images[0]));
	stack->images[0] = image;
	stack->count++;
	stack->leaf++;
	return 0;
}

static int
open_all(struct image_stack *stack, struct reason *reason)
{
	int r = image_open(stack->images[stack->leaf], reason);

	if (r == 0)
		r = open_parents(stack, reason);
	if (r == 0)
		r = validate_parents(stack, reason);
	for (int i = stack->leaf - 1; r == 0 && i >= 0; i--)
		r = image_open(stack->images[i], reason);
	return r;
}

void
image_stack_init(struct image_stack *stack, struct loop *loop, struct io *io,
		 const struct driver_type *types, td_callback_t core_callback)
{
	*stack = (struct image_stack){ .loop = loop,
				       .io = io,
				       .types = types,
				       .core_callback = core_callback };
	stack->held = calloc(IMAGE_HELD_MAX, sizeof(*stack->held));
	assert(stack->held != NULL);
	task_init(&stack->deliver, loop, image_stack_deliver);
}

void
image_stack_done(struct image_stack *stack)
{
	assert(stack->count == 0 && stack->held_count == 0);
	task_cancel(&stack->deliver);
	free(stack->held);
	stack->held = NULL;
}

int
image_stack_open(struct image_stack *stack, const char *name, td_flag_t flags,
		 struct reason *reason)
{
	char *copy;
	int r;

	assert(stack->count == 0);
	if (strlen(name) >= IMAGE_NAME_MAX)
		return reason_set(reason, -ENAMETOOLONG,
				  "an image's name may have %d bytes",
				  IMAGE_NAME_MAX - 1);
	copy = strdup(name);
	if (copy == NULL)
		return -ENOMEM;
	r = parse_name(stack, copy, flags, reason);
	free(copy);
	if (r == 0 && (flags & TD_OPEN_LOG_DIRTY))
		r = put_log_on_top(stack, flags, reason);
	if (r == 0)
		r = open_all(stack, reason);
	if (r < 0) {
		(void)image_stack_close(stack, NULL);
		return r;
	}
	stack->top = stack->images[0];
	return 0;
}

int
image_stack_close(struct image_stack *stack, struct reason *reason)
{
	int first = 0;

	for (int i = 0; i < stack->count; i++) {
		td_image_t *image = stack->images[i];
		int r;

		assert(image->outstanding == 0);
		r = image_close(image);
		if (r < 0 && first == 0)
			first = reason_set(reason, r, "%s:%s: closing: %s",
					   image->type, image->driver->name,
					   strerror(-r));
		image_destroy(image);
		stack->images[i] = NULL;
	}
	stack->count = 0;
	stack->top = NULL;
	stack->service = TD_SERVICE_OPEN;
	stack->why[0] = '\0';
	return first;
}

static int
image_resize(td_image_t *image, td_sector_t sectors, struct reason *reason)
{
	td_driver_t *driver = image->driver;
	td_sector_t old = driver->info.size;
	struct reason why = { .text = "" };
	int r;

	if (driver->ops->td_resize == NULL) {
		if (!image->filter)
			return reason_set(reason, -EOPNOTSUPP,
					  "%s:%s: this type of image cannot be "
					  "resized",
					  image->type, driver->name);
		driver->info.size = image->below->info.size;
		return check_info(image, reason);
	}
	driver->reason = &why;
	r = driver->ops->td_resize(driver, sectors);
	driver->reason = NULL;
	if (r < 0)
		return reason_set(reason, r, "%s:%s: %s", image->type,
				  driver->name, reason_text(&why, r));
	assert(driver->info.size >= old);
	return check_info(image, reason);
}

int
image_stack_resize(struct image_stack *stack, td_sector_t sectors,
		   struct reason *reason)
{
	int r = 0;

	for (int i = stack->leaf; r == 0 && i >= 0; i--)
		r = image_resize(stack->images[i], sectors, reason);
	return r;
}

int
image_stack_command(struct image_stack *stack, const char *type,
		    const char *command, struct json_t *result,
		    struct reason *reason)
{
	for (int i = 0; i < stack->count; i++) {
		td_driver_t *driver = stack->images[i]->driver;
		struct reason why = { .text = "" };
		int r;

		if (strcmp(stack->images[i]->type, type) != 0)
			continue;
		if (driver->ops->td_command == NULL)
			return reason_set(reason, -EOPNOTSUPP,
					  "the driver %s takes no commands",
					  type);
		driver->reason = &why;
		r = driver->ops->td_command(driver, command, result);
		driver->reason = NULL;
		if (r < 0)
			return reason_set(reason, r, "%s: %s", type,
					  reason_text(&why, r));
		return 0;
	}
	return reason_set(reason, -ENOENT, "this disk has no image of type %s",
			  type);
}

const td_image_t *
image_stack_holder(const struct image_stack *stack)
{
	for (int i = stack->count - 1; i >= 0; i--) {
		if (stack->images[i]->outstanding > 0)
			return stack->images[i];
	}
	return NULL;
}

static json_t *
image_json(const td_image_t *image)
{
	const td_driver_t *driver = image->driver;
	json_t *stats = json_object();
	json_t *object =
		json_pack("{s:s, s:s, s:I, s:I, s:b, s:I, s:o}", "type",
			  image->type, "name", driver->name, "size",
			  (json_int_t)(image->info.size << SECTOR_SHIFT),
			  "sector_size", (json_int_t)image->info.sector_size,
			  "read_only", (image->flags & TD_OPEN_RDONLY) != 0,
			  "outstanding", (json_int_t)image->outstanding,
			  "stats", stats_json(&image->stats));

	if (driver->ops->td_stats != NULL)
		driver->ops->td_stats(image->driver, stats);
	if (object == NULL) { /* a name that is not UTF-8 */
		json_decref(stats);
		return json_object();
	}
	(void)json_object_set_new(object, "driver", stats);
	return object;
}

struct json_t *
image_stack_json(const struct image_stack *stack)
{
	json_t *list = json_array();

	for (int i = 0; i < stack->count; i++)
		(void)json_array_append_new(list, image_json(stack->images[i]));
	return list;
}
