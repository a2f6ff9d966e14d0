# SPDX-License-Identifier: BSD-3-Clause
# tapdisk: `make help` lists the targets.  All output goes to build/, sanitized
# builds to build/address-undefined and the like, other compilers' below that.
CC      ?= cc
AR      ?= ar
PREFIX  ?= /usr/local
CFLAGS  ?= -O2 -g
SAN     ?=
V       ?=
DEV     ?=
EXTRA_DRIVERS ?=

comma := ,
ROOT  := $(DESTDIR)$(PREFIX)
B := build$(if $(SAN),/$(subst $(comma),-,$(SAN)))$(if $(filter \
	clang%,$(notdir $(CC))),/clang)
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)")

WARN := -Wall -Wextra -Wshadow -Wvla -Wundef -Wformat=2 -Wwrite-strings \
	-Wpointer-arith -Wcast-align -Wstrict-prototypes -Wmissing-prototypes \
	-Wold-style-definition -Wimplicit-fallthrough -fno-common \
	$(if $(DEV),-Werror)
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer \
	-fno-sanitize-recover=all)
INCLUDES = -D_GNU_SOURCE -I. -iquote core
COMPILE = $(CC) -std=gnu11 $(WARN) $(INCLUDES) $(CPPFLAGS) $(CFLAGS) \
	$(SANFLAGS) -pthread
LINK = $(CC) $(CFLAGS) $(SANFLAGS) $(LDFLAGS) -pthread
LIBS := -Wl,--as-needed -laio -luring -ljansson -lgnutls -lisal -lrdmacm \
	-libverbs $(LDLIBS)

objs   = $(patsubst %.c,$(B)/%.o,$(1))
LIB   := $(call objs,$(wildcard core/*.c core/frontends/*.c drivers/*.c \
	replication/*.c))
TOOLS := $(patsubst tools/%.c,$(B)/%,$(wildcard tools/*.c))
TESTS := $(patsubst %.c,$(B)/%,$(wildcard tests/test_*.c))
FAKES := $(call objs,$(filter-out tests/test_%,$(wildcard tests/*.c)))
EXTRA := $(foreach f,$(EXTRA_DRIVERS),$(B)/extra/$(subst /,_,$(f:.c=.o)))
SIM   := $(call objs,$(wildcard tests/sim/*.c) tests/fake_store.c \
	tests/medium.c)
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))

all: $(TOOLS) $(B)/lib.a ## build the daemon and the tools

tests: $(TESTS) $(B)/tests/sim/sim $(B)/tests/vm/rounds \
	$(B)/tests/bench/map_search ## build what tests run

deps: ## install the Debian packages that are missing
	@tests/install-deps

demo: ## install what is missing, build, and show the thing working
	@tests/install-deps
	@+$(MAKE) --no-print-directory all
	@BUILD=$(B) bash tests/demo.sh

demo-rdma: ## the demo between two virtual machines, over RDMA
	@tests/install-deps
	@+$(MAKE) --no-print-directory all
	@BUILD=$(B) tests/demo_rdma.sh

test: ## install what is missing, build, and run every test
	@tests/install-deps
	@+tests/run $(TESTS_ONLY)

sim: $(B)/tests/sim/sim ## simulate pairs (SEEDS=1000 FROM=1, or SEED=n TRACE=1; LARGE=1)
	@$< --from $(or $(SEED),$(FROM),1) --seeds $(if $(SEED),1,$(or \
		$(SEEDS),1000)) $(if $(LARGE),--large) $(if $(TRACE),--trace) \
		$(if $(WITHOUT),--without $(WITHOUT))

soak: $(B)/tests/sim/sim ## simulate at length (SEEDS=200000 LARGE_SEEDS=20000 STEPS=5)
	@$< --list tests/sim/regressions
	@$< --explore $(or $(STEPS),5)
	@$< --from $(or $(FROM),1) --seeds $(or $(SEEDS),200000)
	@$< --large --from $(or $(FROM),1) --seeds $(or $(LARGE_SEEDS),20000)

mutants: ## break the rules one at a time; the tests must find each (ONLY="a b")
	@tests/install-deps
	@tests/mutants/mutants.py $(ONLY)

bench: ## measure against nbdkit and QEMU (ROUNDS= SECONDS= CHECK=)
	@tests/install-deps
	@+$(MAKE) --no-print-directory all $(B)/tests/bench/map_search
	@$(B)/tests/bench/map_search $(if $(CHECK),--check)
	@for bench in bench_track bench; do \
		tests/bench/$$bench --build $(B) \
			$(if $(ROUNDS),--rounds $(ROUNDS)) \
			$(if $(SECONDS),--seconds $(SECONDS)) \
			$(if $(CHECK),--check) || exit 1; done

bench-vm: ## measure RDMA between two guests (ROUNDS=3 SECONDS=3 CHECK=)
	@tests/install-deps
	@+$(MAKE) --no-print-directory all
	@BUILD=$(B) tests/bench/bench_vm $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(CHECK),--check)

fuzz: ## run each fuzzer for FUZZ_SECONDS (60)
	@+tests/run --fuzz $${FUZZ_SECONDS:-60}

lint: ## check format, layering, manuals, and what analysers find
	@+tests/lint

fmt: ## format the C sources
	@clang-format -i $(shell git ls-files '*.[ch]')

install: all ## install below $(DESTDIR)$(PREFIX)
	install -d $(ROOT)/bin
	install -m 755 $(TOOLS) $(ROOT)/bin
	$(Q)for m in $(wildcard docs/*.[1-8]); do \
		install -Dm 644 $$m $(ROOT)/share/man/man$${m##*.}/$${m##*/}; done
	$(Q)for c in $(wildcard tools/*.bash); do c=$${c##*/}; install -Dm 644 \
		tools/$$c $(ROOT)/share/bash-completion/completions/$${c%.bash}; done
	$(Q)for u in $(wildcard tools/*.service); do \
		install -Dm 644 $$u $(ROOT)/lib/systemd/system/$${u##*/}; \
		sed -i 's|/usr/local|$(PREFIX)|' \
			$(ROOT)/lib/systemd/system/$${u##*/}; done

clean: ## remove build/
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

where: ; @echo $(B)
fuzzers: $(FUZZERS)
tidied: $(patsubst %.c,$(B)/%.tidy,$(shell git ls-files '*.c' 2>/dev/null))

.PHONY: all tests deps demo demo-rdma test bench bench-vm fuzz lint fmt \
	install clean help where sim soak mutants fuzzers tidied FORCE
.SECONDARY:
.DELETE_ON_ERROR:
.SECONDEXPANSION:
rooms = $(call objs,$(wildcard tools/common/*.c tools/$(1)/*.c)) \
	$(if $(filter tapdisk,$(1)),$(EXTRA) $(B)/extra/table.o)
$(TOOLS): $(B)/%: $(B)/tools/%.o $$(call rooms,$$*) $(B)/lib.a
	$(call say,LD $@)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(TESTS): %: %.o $(FAKES) $(B)/lib.a
	$(call say,LD $@)
	$(Q)$(LINK) -o $@ $^ $(LIBS) -lcmocka
$(B)/tests/vm/rounds $(B)/tests/bench/map_search: %: %.o $(B)/lib.a
	$(call say,LD $@)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(B)/tests/sim/sim: $(SIM) $(B)/lib.a
	$(call say,LD $@)
	$(Q)$(LINK) -o $@ $^ $(LIBS)
$(FUZZERS): %: %.o $(B)/lib.a
	$(Q)$(LINK) -fsanitize=fuzzer -o $@ $^ $(LIBS)
$(B)/lib.a: $(LIB) ; $(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC $<)
	$(Q)$(COMPILE) -MMD -MP -c -o $@ $<
# Drivers of others are compiled without our warnings, and linked before those
# that are built in.
define extra_rule
$(B)/extra/$(subst /,_,$(1:.c=.o)): $(1) $(B)/flags
	@mkdir -p $$(@D)
	$$(call say,CC $$<)
	$$(Q)$$(filter-out $$(WARN),$$(COMPILE)) -MMD -MP -c -o $$@ $$<
endef
$(foreach f,$(EXTRA_DRIVERS),$(eval $(call extra_rule,$(f))))
$(B)/extra/table.c: FORCE
	@mkdir -p $(@D)
	@COMPILE='$(subst ','\'',$(filter-out $(WARN),$(COMPILE)))' \
		drivers/extra_drivers.sh $(EXTRA_DRIVERS) >$@.new
	@cmp -s $@.new $@ || mv $@.new $@
$(B)/extra/table.o: $(B)/extra/table.c $(B)/flags
	$(Q)$(COMPILE) -c -o $@ $<
$(B)/%.tidy: %.c $(B)/%.o .clang-tidy
	$(call say,TIDY $<)
	$(Q)clang-tidy --quiet $< -- -std=gnu11 $(INCLUDES) >$@.out 2>&1 \
		&& touch $@ || { cat $@.out; exit 1; }
# Objects and programs are made anew when the flags change.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(COMPILE) $(LINK) $(LIBS))' >$@.new
	@cmp -s $@.new $@ || mv $@.new $@
-include $(shell find $(B) -path $(B)/vm -prune -o -name '*.d' -print 2>/dev/null)
