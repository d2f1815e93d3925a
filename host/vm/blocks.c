/* blocks - the memory of one Lua state: a ring of all its blocks, so that they can be freed without
 * Lua, and what userdata hold of the host's. */
#include <stdlib.h>

#include "vm/vm_private.h"

void blocks_init(struct vm *vm)
{
    vm->blocks.next = &vm->blocks;
    vm->blocks.prev = (uintptr_t)&vm->blocks;
}

static struct vm_block *block_before(const struct vm_block *block)
{
    return (struct vm_block *)(block->prev & ~(uintptr_t)1);
}

static void set_before(struct vm_block *block, const struct vm_block *before)
{
    block->prev = (uintptr_t)before | (block->prev & 1);
}

static void link_block(struct vm *vm, struct vm_block *block)
{
    struct vm_block *last = block_before(&vm->blocks);
    block->next = &vm->blocks;
    block->prev = (uintptr_t)last;
    last->next = block;
    set_before(&vm->blocks, block);
}

static void unlink_block(struct vm_block *block)
{
    struct vm_block *before = block_before(block);
    before->next = block->next;
    set_before(block->next, before);
}

const void *blocks_newest(const struct vm *vm)
{
    return block_before(&vm->blocks);
}

void blocks_own(struct vm *vm, struct vm_held *held)
{
    struct vm_block *block = (struct vm_block *)(void *)((char *)held - vm->held_at);
    block->prev |= 1;
}

void vm_hold(lua_State *L, struct vm_held *held, void (*drop)(struct vm_held *held))
{
    struct vm *vm = vm_of(L);
    held->drop = drop;
    held->next = &vm->held;
    held->prev = vm->held.prev;
    held->prev->next = held;
    vm->held.prev = held;
}

void vm_unhold(struct vm_held *held)
{
    if (!held->next)
        return;
    held->prev->next = held->next;
    held->next->prev = held->prev;
    held->prev = held->next = NULL;
}

/* A userdata of vm_own is being freed. */
static void drop_held(struct vm *vm, struct vm_block *block)
{
    struct vm_held *held = (struct vm_held *)((char *)block + vm->held_at);
    if (!held->next)
        return;
    vm_unhold(held);
    held->drop(held);
}

void *blocks_move(struct vm *vm, void *memory, size_t old_size, size_t new_size)
{
    struct vm_block *block = memory ? (struct vm_block *)memory - 1 : NULL;
    if (block && (block->prev & 1))
        drop_held(vm, block);
    if (block)
        unlink_block(block);
    if (new_size == 0) {
        free(block);
        vm->used_bytes -= old_size;
        return NULL;
    }
    /* realloc of nothing costs twice a malloc. */
    size_t bytes = sizeof *block + new_size;
    struct vm_block *moved = block ? realloc(block, bytes) : malloc(bytes);
    if (moved) {
        vm->used_bytes += new_size - old_size;
        link_block(vm, moved);
        return moved + 1;
    }
    if (block)
        link_block(vm, block);
    return new_size > old_size ? NULL : memory;
}

void blocks_free(struct vm *vm)
{
    while (vm->blocks.next != &vm->blocks) {
        struct vm_block *block = vm->blocks.next;
        vm->blocks.next = block->next;
        free(block);
    }
}
