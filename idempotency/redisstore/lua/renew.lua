-- Renews a lease. KEYS[1] is the record. ARGV: 1 token fence, 2 lease in µs.
-- Returns {'ok'}, {'stale'} or {'version', it}.
local old = redis.call('HMGET', KEYS[1], 'v', 's', 'f', 'u')
if old[1] and old[1] ~= '1' then return {'version', old[1]} end
if old[3] ~= ARGV[1] or old[2] ~= 'h' then return {'stale'} end
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local till = math.max(tonumber(old[4]), now + tonumber(ARGV[2]))
redis.call('HSET', KEYS[1], 'u', string.format('%.0f', till))
local ms = math.ceil((till - now) / 1000)
if redis.call('PTTL', KEYS[1]) < ms then redis.call('PEXPIRE', KEYS[1], string.format('%.0f', ms)) end
return {'ok'}
