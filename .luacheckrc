std = "luajit"
max_line_length = 120
exclude_files = { "lua/library", "spec/contract" }

files["spec"] = { std = "+busted" }
files["examples/**/*_test.lua"] = { std = "+busted" }
files["host/cli/init/**/*_test.lua"] = { std = "+busted" }
