# SPDX-License-Identifier: BSD-3-Clause
# tapdisk: `make help` lists the targets.  All output goes to build/.
CC      ?= cc
AR      ?= ar
PREFIX  ?= /usr/local
CFLAGS  ?= -O2 -g
SAN     ?=
V       ?=
DEV     ?=
EXTRA_DRIVERS ?=

B := build$(if $(SAN),/san)$(if $(filter clang%,$(notdir $(CC))),/clang)
Q := $(if $(V),,@)

WARN := -Wall -Wextra -Wshadow -Wvla -Wundef -Wformat=2 -Wwrite-strings \
	-Wpointer-arith -Wcast-align -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wimplicit-fallthrough -fno-common \
	$(if $(DEV),-Werror)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer \
	-fno-sanitize-recover=all)
COMPILE = $(CC) -std=gnu11 $(WARN) -D_GNU_SOURCE -I. $(CPPFLAGS) $(CFLAGS) \
	$(SANFLAGS) -pthread
LINK = $(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -pthread
LIBS := -laio -luring -ljansson -lgnutls

objs   = $(patsubst %.c,$(B)/%.o,$(1))
LIB   := $(call objs,$(wildcard core/*.c core/frontends/*.c drivers/*.c \
	replication/*.c))
TOOLS := $(patsubst tools/%.c,$(B)/%,$(wildcard tools/*.c))
TESTS := $(patsubst %.c,$(B)/%,$(wildcard tests/test_*.c))
FAKES := $(call objs,$(filter-out tests/test_%,$(wildcard tests/*.c)))

all: $(TOOLS) ## build the daemon and the tools

tests: $(TESTS) ## build the unit tests

.PHONY: all tests clean help FORCE
.SECONDARY:
.SECONDEXPANSION:
rooms = $(call objs,$(wildcard tools/common/*.c tools/$(1)/*.c))
$(TOOLS): $(B)/%: $(B)/tools/%.o $$(call rooms,$$*) $(B)/lib.a
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(TESTS): %: %.o $(FAKES) $(B)/lib.a ; $(Q)$(LINK) -o $@ $^ $(LIBS) -lcmocka
$(B)/lib.a: $(LIB) ; $(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC $<")
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(COMPILE)' | cmp -s - $@ || echo '$(COMPILE)' >$@
-include $(shell find $(B) -name '*.d' 2>/dev/null)

clean: ## remove build/
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile
