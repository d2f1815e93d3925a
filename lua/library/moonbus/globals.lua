---@meta _

--- Globals that are there in some files alone: in tests (`*_test.lua`, docs/TESTING.md), and in the config file.

--- What luassert has; here are the assertions that tests mostly use.
---@class moonbus.test.Assert
---@overload fun(value: any, message?: any, ...: any): any
---@field equal fun(expected: any, passed: any, message?: any) the same, by ==
---@field same fun(expected: any, passed: any, message?: any) the same, also two tables of the same values
---@field is_true fun(value: any, message?: any)
---@field is_false fun(value: any, message?: any)
---@field is_nil fun(value: any, message?: any)
---@field is_not_nil fun(value: any, message?: any)
---@field is_truthy fun(value: any, message?: any)
---@field is_falsy fun(value: any, message?: any)
---@field matches fun(pattern: string, text: string, init?: integer, plain?: boolean, message?: any)
---@field near fun(expected: number, passed: number, tolerance: number, message?: any)
---@field has_error fun(fn: fun(), expected?: any, message?: any)
---@field [string] any

--- Lua's own; in tests luassert, which is called in the same way.
---@type moonbus.test.Assert
assert = nil

--- Of tests: a block of them. Blocks nest.
---@type fun(name: string, fn: fun())
describe = nil

--- Of tests: as `describe`.
---@type fun(name: string, fn: fun())
context = nil

--- Of tests: one test. Without `fn` it is pending.
---@type fun(name: string, fn?: fun())
it = nil

--- Of tests: one that is not run; inside of a test, it ends as pending, and the text is its reason.
---@type fun(name?: string, fn?: fun())
pending = nil

--- Of tests: before each of the block, and of those in it.
---@type fun(fn: fun())
before_each = nil

--- Of tests: after each of the block, and of those in it; also after one that failed.
---@type fun(fn: fun())
after_each = nil

--- Of tests: once, before the block.
---@type fun(fn: fun())
setup = nil

--- Of tests: once, after the block.
---@type fun(fn: fun())
teardown = nil

--- Of the config file: a variable of the environment. Unset, and without a default, it is an error.
---@type fun(name: string, default?: string): string
env = nil

--- Of the config file: the variable, or what the file holds that `NAME_FILE` names. It is never printed.
---@type fun(name: string): string
secret = nil
