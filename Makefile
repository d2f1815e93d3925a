# Every target works alone, on a fresh clone.
#
#   make run      install what is missing, build, and serve examples/ with a server of its own
#   make test     install what is missing, build, run the whole suite
#   make install  build/moonbus to $(PREFIX)/bin, the annotations for editors to $(PREFIX)/share

PREFIX ?= /usr/local
BUILD_TYPE ?= RelWithDebInfo

C_FILES = $(wildcard host/*/*.c host/*/*.h spec/support/*.c spec/support/*.h)
LUA_DIRS = $(wildcard lua examples spec)

.PHONY: run test build deps lint format asan tsan install clean help
.DEFAULT_GOAL := build

help:
	@sed -n '/^#   /s/^#   //p' $(firstword $(MAKEFILE_LIST))
	@echo 'also: build deps lint format asan tsan clean'

run: build
	@exec build/moonbus dev examples/

test: build
	@spec/run build

build: deps
	@$(call build_in,build,)

deps:
	@.ci/deps

# build_in <folder> <sanitizer>. A configured folder configures itself again when it must.
define build_in
{ test -f $(1)/build.ninja || cmake -S . -B $(1) -G Ninja --log-level=WARNING \
    -D CMAKE_BUILD_TYPE=$(BUILD_TYPE) -D MOONBUS_SANITIZE=$(2) \
    -D CMAKE_INSTALL_PREFIX=$(PREFIX); } && cmake --build $(1)
endef

# The same suite, against a binary that is built with a sanitizer.
asan: deps
	@$(call build_in,build-asan,address)
	@spec/run build-asan

tsan: deps
	@$(call build_in,build-tsan,thread)
	@spec/run build-tsan

lint: deps
	@clang-format --dry-run -Werror $(C_FILES)
	@luacheck --quiet $(LUA_DIRS)

format: deps
	@clang-format -i $(C_FILES)

install: build
	DESTDIR=$(DESTDIR) cmake --install build --prefix $(PREFIX)

clean:
	rm -rf build build-asan build-tsan
