-- Sends each object to the nodes that its station calls for.
--
--   [lua]
--   ExportConverter0 = dofile('lua/route_by_station.lua')
--
-- or, while objects arrive: ImportConverter0 = lua/route_by_station.lua
-- All nodes have to be in acrnema.map. ROUTES is the table to change for a site.

local ROUTES = {
  -- Name of the station as a Lua pattern, nodes; the first that fits counts.
  { '^ROOM1$', { 'ARCHIVE', 'WORKSTATION1' } },
  { '^CT%d+$', { 'ARCHIVE', 'CTVIEWER' } },
  { '^US', { 'ARCHIVE' } },
}
local OTHERS = { 'ARCHIVE' }
-- Objects of these kinds go nowhere.
local KEPT = { PR = true, KO = true }
-- Studies with one of these words in their description go here, too, wherever they come from.
local URGENT, URGENT_NODES = { 'stroke', 'trauma' }, { 'WORKSTATION1' }

local function nodes_of(station)
  for _, route in ipairs(ROUTES) do
    if station:find(route[1]) then return route[2] end
  end
  return OTHERS
end

local function is_urgent()
  local text = (Data.StudyDescription or ''):lower()
  for _, word in ipairs(URGENT) do
    if text:find(word, 1, true) then return true end
  end
  return false
end

local function send()
  if KEPT[Data.Modality or ''] then return end
  local station = (Data.StationName or ''):upper()
  local wanted, order = {}, {}
  local function add(nodes)
    for _, node in ipairs(nodes) do
      -- Nobody gets back what it has sent.
      if not wanted[node] and node ~= Association.Calling then
        wanted[node] = true
        order[#order + 1] = node
      end
    end
  end
  add(nodes_of(station))
  if is_urgent() then add(URGENT_NODES) end
  for _, node in ipairs(order) do script('forward to ' .. node) end
  debuglog('station', station, 'goes to', table.concat(order, ' '))
end

send()
