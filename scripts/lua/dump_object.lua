-- Shows an object as text, sequences included, and tells what two objects have not in common.
--
--   ImportConverter0 = lua/dump_object.lua
--   [lua]
--   startup = command_line = 'before.dcm after.dcm' dofile('lua/dump_object.lua')
--
-- As a rule it writes dumps/SOPINSTANCE.txt for each object. With one name in the command line it does
-- so for that object, with two it writes what is different to dumps/difference.txt. A name is that of
-- a file, or PATIENT:SOPINSTANCE of an object in the archive.

local function fields(text)
  local found = {}
  for field in (text .. '|'):gmatch('([^|]*)|') do found[#found + 1] = field end
  return found
end

-- Returns an object as a list of lines, each with the tag it stands for.
local function lines_of(object, lines, before)
  lines, before = lines or {}, before or ''
  local keywords, vrs, groups, elements = object:ListItems()
  keywords, vrs = fields(keywords), fields(vrs)
  groups, elements = fields(groups), fields(elements)
  for number = 1, #groups do
    local group, element = tonumber(groups[number]), tonumber(elements[number])
    if group and element > 0 then
      local tag = ('%s(%04x,%04x)'):format(before, group, element)
      local value = object:GetVR(group, element, true)
      local what = vrs[number] .. ' ' .. keywords[number]
      if type(value) == 'userdata' then
        lines[#lines + 1] = { tag, ('%s: %d items'):format(what, #value) }
        for item = 0, #value - 1 do lines_of(value[item], lines, tag .. '[' .. item .. ']') end
      elseif #value > 64 or value:find('[%c\127-\255]') then
        lines[#lines + 1] = { tag, ('%s: %d bytes, md5 %s'):format(what, #value, md5sum(value)) }
      else
        lines[#lines + 1] = { tag, what .. ': ' .. value }
      end
    end
  end
  return lines
end

local function write(name, lines)
  mkdir('dumps')
  local out = assert(io.open('dumps/' .. name, 'w'))
  for _, line in ipairs(lines) do out:write(line[1], ' ', line[2], '\n') end
  out:close()
end

-- Returns what only one of two objects has, or has otherwise: - for the first, + for the second.
local function difference(first, second)
  local other, both, found = {}, {}, {}
  for _, line in ipairs(second) do other[line[1]] = line[2] end
  for _, line in ipairs(first) do
    if other[line[1]] == line[2] then
      both[line[1]] = true
    else
      found[#found + 1] = { '- ' .. line[1], line[2] }
    end
  end
  for _, line in ipairs(second) do
    if not both[line[1]] then found[#found + 1] = { '+ ' .. line[1], line[2] } end
  end
  table.sort(found, function(a, b) return a[1]:sub(3) .. a[1] < b[1]:sub(3) .. b[1] end)
  return found
end

local function loaded(name)
  local object = newdicomobject()
  readdicom(object, name)
  return object
end

local names = {}
for name in (command_line or ''):gmatch('%S+') do names[#names + 1] = name end
if #names == 2 then
  write('difference.txt', difference(lines_of(loaded(names[1])), lines_of(loaded(names[2]))))
else
  local object = names[1] and loaded(names[1]) or Data
  -- Dump would do for most uses: Data:Dump('dumps/x.txt') writes a text of its own form.
  write((object.SOPInstanceUID or 'unknown'):gsub('[^%w.]', '_') .. '.txt', lines_of(object))
end
