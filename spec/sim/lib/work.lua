-- For handlers of a simulated host: what they offload.
return {
  add = function(list) return { sum = list[1] + list[2], text = ("x"):rep(list[1]) } end,
}
