/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * verbs_disk.c - the verbs that change a disk that there is: one command each.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>

#include "core/image.h"
#include "core/reason.h"
#include "tools/common/run_dir.h"
#include "tools/common/size.h"
#include "tools/tap-ctl/client.h"
#include "tools/tap-ctl/verbs.h"

#define SECONDS_MAX 86400

static unsigned int
limit_of(const struct context *context)
{
	return (unsigned int)number_of(context, ARG_LIMIT, SECONDS_MAX, 0);
}

int
verb_attach(struct context *context)
{
	long minor = number_of(context, ARG_MINOR, RUN_DIR_MINORS - 1, -1);

	if (minor < 0 || !has(context, ARG_PID))
		return complain(context, EXIT_USAGE,
				"say which tapdisk and minor: -p PID and "
				"-m MINOR");
	/* The minor is not the disk's yet: do not look for it. */
	context->text[ARG_MINOR] = NULL;
	return disk_command(context, "attach",
			    json_pack("{s:I}", "minor", (json_int_t)minor), 0);
}

int
verb_detach(struct context *context)
{
	return disk_command(context, "detach", NULL, 0);
}

int
verb_open(struct context *context)
{
	struct reason reason = { "" };
	struct client *client = NULL;
	json_t *status = NULL, *result = NULL;
	int r;

	if (!has(context, ARG_IMAGE))
		return complain(context, EXIT_USAGE,
				"say which image: -a TYPE:PATH");
	r = disk_find(context, &client, &status);
	if (r != EXIT_OK)
		return r;
	r = open_image(context, client, status, &result, &reason);
	if (r == 0)
		print_addresses(context, result);
	if (r == 0)
		json_decref(result);
	client_free(client);
	json_decref(status);
	return r < 0 ? complain_of(context, r, &reason) : EXIT_OK;
}

int
verb_close(struct context *context)
{
	return disk_command(context, "close",
			    json_pack("{s:b, s:i}", "force",
				      has(context, ARG_FORCE), "timeout",
				      (int)limit_of(context)),
			    0);
}

int
verb_pause(struct context *context)
{
	return disk_command(
		context, "pause",
		json_pack("{s:i}", "timeout", (int)limit_of(context)), 0);
}

int
verb_unpause(struct context *context)
{
	return disk_command(
		context, "unpause",
		json_pack("{s:s*}", "image", context->text[ARG_IMAGE]), 0);
}

int
verb_resize(struct context *context)
{
	const char *text = context->text[ARG_SIZE];
	uint64_t size = 0;

	if (text && (size_parse(text, &size) < 0 || size == 0 ||
		     size > (uint64_t)INT64_MAX))
		return complain(context, EXIT_USAGE,
				"%s is no size; write 64M, 20G or bytes", text);
	return disk_command(context, "resize",
			    json_pack("{s:I}", "size", (json_int_t)size), 0);
}

int
verb_driver(struct context *context)
{
	json_t *arguments =
		json_pack("{s:s, s:s}", "type", context->operands[0], "command",
			  context->operands[1]);

	if (!arguments)
		return complain(context, EXIT_USAGE,
				"the instruction is not UTF-8");
	context->text[ARG_JSON] = "";
	return disk_command(context, "driver-command", arguments, 0);
}

int
verb_log_level(struct context *context)
{
	return disk_command(context, "log-level",
			    json_pack("{s:s}", "level", context->operands[0]),
			    0);
}

/* --- open, for create too --- */

int
open_image(struct context *context, struct client *client, const json_t *before,
	   json_t **ret_result, struct reason *reason)
{
	const char *name = json_string_value(json_object_get(before, "name"));
	char image[IMAGE_NAME_MAX];
	json_t *arguments;
	int r;

	r = pair_compose(&context->pair, name ? name : "disk",
			 context->text[ARG_IMAGE], image, sizeof(image),
			 reason);
	if (r < 0)
		return r;
	arguments = json_pack("{s:s}", "image", image);
	if (!arguments)
		return reason_set(reason, -EINVAL,
				  "the name of the image is not UTF-8");
	if (has(context, ARG_READ_ONLY))
		json_object_set_new(arguments, "read_only", json_true());
	if (has(context, ARG_NO_DIRECT))
		json_object_set_new(arguments, "direct", json_false());
	if (has(context, ARG_REQUEST_TIMEOUT))
		json_object_set_new(
			arguments, "timeout",
			json_integer(number_of(context, ARG_REQUEST_TIMEOUT,
					       SECONDS_MAX, 0)));
	return client_call(client, "open", arguments, 0, ret_result, reason);
}

void
print_addresses_of(const json_t *frontend, const char *prefix)
{
	json_t *addresses = json_object_get(frontend, "addresses"), *address;
	size_t i;

	json_array_foreach (addresses, i, address) {
		printf("%s%s\n", prefix, json_string_value(address));
	}
}

void
print_addresses(const struct context *context, const json_t *status)
{
	json_t *frontends = json_object_get(status, "frontends"), *frontend;
	const char *name;

	if (has(context, ARG_JSON)) {
		print_json(status);
		return;
	}
	json_object_foreach (frontends, name, frontend) {
		print_addresses_of(frontend, "");
	}
}
