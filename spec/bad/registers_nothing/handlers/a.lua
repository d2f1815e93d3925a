-- This is a module, and belongs into lib/.
return { a = "module that belongs into lib/" }
