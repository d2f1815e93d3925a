-- A drawing of bars, marks and texts on a card, as SVG: light and dark, as whoever looks has it.
local svg = {}
svg.__index = svg

-- The colours of what is drawn, by class: on a light card, and on a dark one.
local COLOURS = {
  { "card", "#ffffff", "#0d1117" }, { "text", "#1f2328", "#e6edf3" }, { "soft", "#59636e", "#9198a1" },
  { "rule", "#d0d7de", "#3d444d" }, { "goal", "#1a7f37", "#3fb950" },
  { "moonbus", "#0969da", "#4493f8" }, { "c", "#6e7781", "#8b949e" }, { "go", "#1b7c83", "#39c5cf" },
  { "node", "#7d8a00", "#b9c45a" }, { "python", "#9a6700", "#d29922" },
  { "part1", "#0a3069", "#79c0ff" }, { "part2", "#0969da", "#388bfd" }, { "part3", "#8250df", "#ab7df8" },
  { "part4", "#bf3989", "#f778ba" }, { "part5", "#bc4c00", "#f0883e" }, { "part6", "#9a6700", "#d29922" },
  { "part7", "#8c959f", "#6e7681" },
}

local function escape(text)
  return (text:gsub("[&<>\"]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }))
end

-- title, description: what is read aloud in its place.
function svg.new(width, height, title, description)
  local self = setmetatable({ lines = {} }, svg)
  self:add([[<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="ui-sans-serif,]]
    .. [[ system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif" font-size="13" role="img"]]
    .. [[ aria-labelledby="title desc">]], width, height)
  self:add("<title id=\"title\">%s</title>", escape(title))
  self:add("<desc id=\"desc\">%s</desc>", escape(description))
  local light, dark = {}, {}
  for _, colour in ipairs(COLOURS) do
    light[#light + 1] = (".%s { fill: %s; }"):format(colour[1], colour[2])
    dark[#dark + 1] = (".%s { fill: %s; }"):format(colour[1], colour[3])
  end
  self:add("<style>%s\n@media (prefers-color-scheme: dark) { %s }</style>", table.concat(light, " "),
    table.concat(dark, " "))
  self:rect("card", 0, 0, width, height, 10)
  return self
end

function svg:add(format, ...) self.lines[#self.lines + 1] = select("#", ...) > 0 and format:format(...) or format end

function svg:rect(class, x, y, width, height, radius)
  self:add('<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f" rx="%d"/>', class, x, y,
    math.max(width, 0.5), height, radius or 1)
end

function svg:dot(class, x, y, radius)
  self:add('<circle class="%s" cx="%.1f" cy="%.1f" r="%.1f"/>', class, x, y, radius)
end

-- where: "start", "middle" or "end" of it is at x.
function svg:text(class, x, y, text, where, size)
  self:add('<text class="%s" x="%.1f" y="%.1f" text-anchor="%s" font-size="%d">%s</text>', class, x, y,
    where or "start", size or 13, escape(text))
end

function svg:write(path)
  self:add "</svg>"
  local file = assert(io.open(path, "w"))
  file:write(table.concat(self.lines, "\n"), "\n")
  file:close()
end

return svg
