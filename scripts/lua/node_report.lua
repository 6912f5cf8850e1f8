-- Writes a report about the server each night: who can be reached, who could be deleted first.
--
--   [lua]
--   nightly = dofile('lua/node_report.lua')

local out = assert(io.open('node_report.txt.new', 'w'))
local function say(...) out:write(table.concat({ ... }, '\t'), '\n') end

say('dgate', version or '', os.date('%Y-%m-%d %H:%M:%S'), gpps('sscscp', 'MyACRNema', ''))
say('memory', heapinfo())
say('received', tostring(Global.ImagesReceived), 'free', servercommand('get_freestore:MAG0') or '')

local number = 0
while true do
  local title, host, port, code = get_amap(number)
  if not title then break end
  -- A pattern in acrnema.map names many nodes, and none that could be asked.
  if not title:find('[*?]') and not host:find('[*?]') then
    local start = tickcount()
    local answer = dicomecho(title)
    say('node', title, host .. ':' .. port, code,
      answer and answer.Status == '0' and 'answers' or 'no answer', tickcount() - start .. ' ms')
  end
  number = number + 1
end

for place, id in ipairs(listoldestpatients(5, '', 'AccessTime')) do
  say('oldest', tostring(place), id)
end
out:close()
assert(os.rename('node_report.txt.new', 'node_report.txt'))
