package redisstream

import "github.com/redis/go-redis/v9"

// Scripts that act for an owner look at the owner first: KEYS[2] holds the
// token of who may, which is also the name of the consumer in the group's pending
// list. What they answer to somebody else is lostReply.
const lostReply = "lost"

// memberScript: KEYS members; ARGV member, milliseconds it lives (0: leaves).
// It returns all members, in order of name.
var memberScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if tonumber(ARGV[2]) > 0 then
  redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local all = redis.call('ZRANGE', KEYS[1], 0, -1)
table.sort(all)
return all`)

// declareScript: KEYS stream; ARGV group, or nothing for none.
var declareScript = redis.NewScript(`
if ARGV[1] ~= '' then
  local r = redis.pcall('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
  if r.err and not string.find(r.err, 'BUSYGROUP') then return r end
elseif redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'mainstay', '0', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], 'mainstay')
end
return 'ok'`)

// acquireScript: KEYS stream, owner, guard; ARGV token, group, lease in
// milliseconds. It returns the last entry the group has read, or nothing if
// somebody else owns the partition. It may be sent twice. Here and in
// renewScript the guard is set to expire first: it must not outlive the lease.
var acquireScript = redis.NewScript(`
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[3]) and redis.call('GET', KEYS[2]) ~= ARGV[1] then return '' end
for _, g in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local name, last
  for i = 1, #g, 2 do
    if g[i] == 'name' then name = g[i + 1] elseif g[i] == 'last-delivered-id' then last = g[i + 1] end
  end
  if name == ARGV[2] then
    redis.pcall('XGROUP', 'CREATE', KEYS[3], ARGV[2], '$', 'MKSTREAM')
    redis.call('PEXPIRE', KEYS[3], ARGV[3])
    redis.call('PEXPIRE', KEYS[2], ARGV[3])
    return last
  end
end
redis.call('DEL', KEYS[2])
return redis.error_reply('NOGROUP no such group: ' .. ARGV[2])`)

// renewScript: KEYS stream, owner, guard; ARGV token, lease in milliseconds.
var renewScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] or redis.call('PEXPIRE', KEYS[3], ARGV[2]) == 0 then return 0 end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1`)

// recoverScript takes over what former owners left: KEYS stream, owner,
// guard, delayed, headers; ARGV token, group, start, count. It returns the
// next start, and of each entry the ID, fields, former deliveries, milliseconds
// until a retry is due or -1, and its headers. What is this owner's already was in
// an answer that did not arrive, which is no delivery: it is not counted again.
// Consumers with nothing left go.
var recoverScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local pending = redis.call('XPENDING', KEYS[1], ARGV[2], ARGV[3], '+', ARGV[4])
local counts, own, last = {}, {}, false
for _, p in ipairs(pending) do
  counts[p[1]] = p[4]
  own[p[1]] = p[2] == ARGV[1]
  last = p[1]
end
local out = {}
if last then
  local claimed = redis.call('XAUTOCLAIM', KEYS[1], ARGV[2], ARGV[1], 0, ARGV[3] == '-' and '0-0' or ARGV[3], 'COUNT', ARGV[4])
  for _, e in ipairs(claimed[2]) do
    if counts[e[1]] then
      if own[e[1]] then
        redis.call('XCLAIM', KEYS[1], ARGV[2], ARGV[1], 0, e[1], 'RETRYCOUNT', counts[e[1]], 'JUSTID')
        counts[e[1]] = counts[e[1]] - 1
      end
      local due = redis.call('ZSCORE', KEYS[4], e[1])
      local headers = due and redis.call('HGET', KEYS[5], e[1])
      out[#out + 1] = {e[1], e[2], counts[e[1]], due and math.max(0, due - now) or -1, headers or ''}
    end
  end
end
if #pending < tonumber(ARGV[4]) then
  for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[2])) do
    local name, n
    for i = 1, #c, 2 do
      if c[i] == 'name' then name = c[i + 1] elseif c[i] == 'pending' then n = c[i + 1] end
    end
    if n == 0 and name ~= ARGV[1] then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[2], name) end
  end
  return {'', out}
end
return {'(' .. last, out}`)

// settleScript: KEYS stream, owner, guard, delayed, headers; ARGV token, group,
// number of acks, the acks, then ID, delay in milliseconds and headers
// of each retry. A retried message counts as delivered once, and recoverScript
// says while it waits. It may be sent twice.
var settleScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end
local n = tonumber(ARGV[3])
if n > 0 then
  redis.call('XACK', KEYS[1], ARGV[2], unpack(ARGV, 4, 3 + n))
  if redis.call('EXISTS', KEYS[4]) == 1 then
    redis.call('ZREM', KEYS[4], unpack(ARGV, 4, 3 + n))
    redis.call('HDEL', KEYS[5], unpack(ARGV, 4, 3 + n))
  end
end
if #ARGV > 3 + n then
  local t = redis.call('TIME')
  local now = t[1] * 1000 + math.floor(t[2] / 1000)
  for i = 4 + n, #ARGV, 3 do
    redis.call('ZADD', KEYS[4], now + ARGV[i + 1], ARGV[i])
    redis.call('HSET', KEYS[5], ARGV[i], ARGV[i + 2])
    redis.call('XCLAIM', KEYS[1], ARGV[2], ARGV[1], 0, ARGV[i], 'RETRYCOUNT', 1, 'JUSTID')
  end
end
return 'ok'`)

// releaseScript: KEYS stream, owner, guard; ARGV token, group, then ID and
// deliveries of what was not handed out.
var releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 'lost' end
for i = 3, #ARGV, 2 do
  redis.call('XCLAIM', KEYS[1], ARGV[2], ARGV[1], 0, ARGV[i], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
end
redis.call('DEL', KEYS[2], KEYS[3])
for _, c in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[2])) do
  local name, n
  for i = 1, #c, 2 do
    if c[i] == 'name' then name = c[i + 1] elseif c[i] == 'pending' then n = c[i + 1] end
  end
  if n == 0 and name == ARGV[1] then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[2], name) end
end
return 'ok'`)

// trimScript drops what every group has settled: KEYS stream; ARGV milliseconds
// an entry stays in any case. Whole nodes go, so some entries stay longer.
var trimScript = redis.NewScript(`
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
if #groups == 0 then return 0 end
local function split(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
local low, lms, lseq
for _, g in ipairs(groups) do
  local name, last, n
  for i = 1, #g, 2 do
    if g[i] == 'name' then name = g[i + 1] elseif g[i] == 'last-delivered-id' then last = g[i + 1] elseif g[i] == 'pending' then n = g[i + 1] end
  end
  if n > 0 then last = redis.call('XPENDING', KEYS[1], name)[2] end
  local ms, seq = split(last)
  if not low or ms < lms or ms == lms and seq < lseq then low, lms, lseq = last, ms, seq end
end
local keep = tonumber(ARGV[1])
if keep > 0 then
  local till = redis.call('TIME')[1] * 1000 - keep
  if till < lms then low = string.format('%.0f-0', till) end
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', low)`)

// lagScript: KEYS stream; ARGV group. It returns how many messages are not
// settled, and the age of the oldest in milliseconds.
var lagScript = redis.NewScript(`
local groups = redis.call('XINFO', 'GROUPS', KEYS[1])
for _, g in ipairs(groups) do
  local f = {}
  for i = 1, #g, 2 do f[g[i]] = g[i + 1] end
  if f['name'] == ARGV[1] then
    local oldest
    local behind = f['lag']
    local next = redis.call('XRANGE', KEYS[1], '(' .. f['last-delivered-id'], '+', 'COUNT', 1)
    if #next == 0 then behind = 0 elseif not behind then behind = redis.call('XLEN', KEYS[1]) end
    if f['pending'] > 0 then
      oldest = redis.call('XPENDING', KEYS[1], ARGV[1])[2]
    elseif #next > 0 then
      oldest = next[1][1]
    end
    local age = 0
    if oldest then
      local t = redis.call('TIME')
      age = math.max(1, t[1] * 1000 + math.floor(t[2] / 1000) - tonumber(string.match(oldest, '^%d+')))
    end
    return {behind + f['pending'], age}
  end
end
return false`)
