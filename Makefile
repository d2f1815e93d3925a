# Every target works alone, on a fresh clone.
#
#   make run      install what is missing, build, and serve examples/ with a server of its own
#   make test     install what is missing, build, run the whole suite
#   make sim      the host in simulated time, by chance and with faults: SEEDS=10000, FROM=1, or SEED=17
#   make refuse   the same with each allocation refused: STEP=1, IN_A_ROW=1, or NTH=17
#   make fuzz     feed what reads from outside with any bytes: FUZZ_SECONDS=60 for each, FUZZ=name
#   make bench    compare with bare C, and with programs in Go, Node and Python: docs/PERFORMANCE.md
#   make bench-instructions   what a message takes, counted: CASES=echo, FUNCTIONS=20; UPDATE=yes commits it
#   make install  build/moonbus to $(PREFIX)/bin, manual page, completions, and the annotations for editors
#                 to $(PREFIX)/share, units for systemd to $(PREFIX)/lib; below DESTDIR, if that is stated
#   make package  a Debian package, build/moonbus_*.deb: docs/DEPLOYING.md

PREFIX ?= /usr/local
BUILD_TYPE ?= RelWithDebInfo

C_FILES = $(shell find host -name '*.[ch]') $(wildcard spec/support/*.c spec/support/*.h \
  spec/sim/*.c spec/sim/*.h bench/*/*.c bench/*/*.h fuzz/*.c fuzz/*.h)
SHELL_FILES = .ci/deps .ci/failures .ci/run .ci/tidy bench/go/build bench/node/install \
  $(wildcard deploy/debian/p*) fuzz/run spec/interop/install spec/run spec/sim/run spec/sim/refuse-run
LUA_DIRS = $(wildcard lua examples spec bench fuzz deploy host)

.PHONY: run test bench bench-smoke bench-instructions bench-plots build deps lint format asan tsan fuzz sim refuse \
  install package clean help
.DEFAULT_GOAL := build

help:
	@sed -n '/^#   /s/^#   //p' $(firstword $(MAKEFILE_LIST))
	@echo 'also: bench-smoke bench-plots build deps lint format asan tsan fuzz clean'

run: build
	@exec build/moonbus dev examples/

test: build
	@spec/run build

# The benchmark: docs/PERFORMANCE.md. Only some cases: CASES=1,4. RUNS, SECONDS and SCALE (of message
# counts) say how long; WITHOUT=go,node,python leaves programs out; JSON=yes prints all runs as JSON.
bench: build
	@$(if $(findstring node,$(WITHOUT)),,bench/node/install)
	@$(if $(findstring go,$(WITHOUT)),,bench/go/build)
	@luajit bench/run.lua --build build --cases "$(CASES)" --runs "$(RUNS)" --scale "$(SCALE)" \
	  --seconds "$(SECONDS)" --without "$(WITHOUT)" $(if $(JSON),--json)

# Draws docs/performance-*.svg from what JSON=yes has printed: make bench-plots RUN=runs.json
bench-plots:
	@luajit bench/plots/run.lua "$(RUN)"

bench-smoke: build
	@luajit bench/run.lua --build build --smoke

# Instructions for a message: of the real process by thread, then in virtual time, beside those that are
# committed. SIMULATED=yes: only the latter, which takes seconds; FUNCTIONS=20: with the functions that
# take most; UPDATE=yes: what is counted now is committed.
bench-instructions: build
	@.ci/deps valgrind
	@luajit bench/instructions/run.lua --build build --cases "$(CASES)" --functions "$(FUNCTIONS)" \
	  $(if $(SIMULATED),--simulated) $(if $(UPDATE),--update)

build: deps
	@$(call build_in,build,)

deps:
	@.ci/deps

# build_in <folder> <sanitizer> [<options to configure>] [<options to build>]. A configured folder
# configures itself again when it must.
define build_in
{ test -f $(1)/build.ninja || cmake -S . -B $(1) -G Ninja --log-level=WARNING \
    -D CMAKE_BUILD_TYPE=$(BUILD_TYPE) -D MOONBUS_SANITIZE=$(2) \
    -D CMAKE_INSTALL_PREFIX=$(PREFIX) $(3); } && cmake --build $(1) $(4)
endef

# The same suite, against a binary that is built with a sanitizer.
asan: deps
	@$(call build_in,build-asan,address)
	@spec/run build-asan

tsan: deps
	@$(call build_in,build-tsan,thread)
	@spec/run build-tsan

# docs/internals/simulation.md. SEED=17 replays that one, with all that happened.
sim: deps
	@$(call build_in,build,,,--target moonbus_sim)
	@SEEDS="$(SEEDS)" FROM="$(FROM)" SEED="$(SEED)" spec/sim/run build

# The 17th allocation is refused by NTH=17.
refuse: deps
	@$(call build_in,build,,,--target moonbus_sim)
	@STEP="$(STEP)" IN_A_ROW="$(IN_A_ROW)" NTH="$(NTH)" spec/sim/refuse-run build

# What was found interesting is replayed by `make test`; FUZZ_KEEP=1 writes more of that down.
fuzz: deps
	@.ci/deps fuzz
	@$(call build_in,build-fuzz,fuzzer,-D CMAKE_C_COMPILER=clang,--target moonbus_fuzz)
	@fuzz/run build-fuzz $(FUZZ)

lint: deps
	@clang-format --dry-run -Werror $(C_FILES)
	@luacheck --quiet $(LUA_DIRS) .ci/structure .ci/pages .ci/*.lua
	@shellcheck $(SHELL_FILES)
	@.ci/structure
	@.ci/pages
	@.ci/tidy

format: deps
	@clang-format -i $(C_FILES)

install: build
	DESTDIR=$(DESTDIR) cmake --install build --prefix $(PREFIX)

package: build
	@cd build && cpack

clean:
	rm -rf build build-asan build-tsan build-fuzz
