-- The head of a thread as a table. Times and versions remain texts, because numbers would need more
-- digits to be written as exactly.

local function join_head(head)
  return table.concat({head.size, head.following, head.born, head.created, head.safe,
                       head.version, head.updated}, ' ')
end

-- Parse a head of this format or of the former one. Returns nothing if it is damaged.
local function parse_head(text, former)
  local head = {former = not text}
  if text then
    head.size, head.following, head.born, head.created, head.safe, head.version, head.updated =
      string.match(text, '^(%d+) (%d+) (%d+) (%S+) (%S+) (%d+) (%S+)$')
  else
    head.size, head.following, head.version, head.created, head.updated, head.safe =
      string.match(former or '', '^(%d+) (%d+) (%d+) (%S+) (%S+) (%S+)$')
    head.born = '0'
  end
  return head.size and head
end

local function store_safe(thread_name, head, safe)
  head.safe = safe
  if head.former then
    redis.call('HSET', thread_name, 'thread', table.concat(
      {head.size, head.following, head.version, head.created, head.updated, safe}, ' '))
  else
    redis.call('HSET', thread_name, 'head', join_head(head))
  end
end
