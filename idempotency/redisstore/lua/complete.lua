-- Stores a result. KEYS[1] is the record. ARGV: 1 token fence, 2 result,
-- 3 TTL in ms. Returns {'ok'}, {'stale'} or {'version', it}.
local old = redis.call('HMGET', KEYS[1], 'v', 's', 'f')
if old[1] and old[1] ~= '1' then return {'version', old[1]} end
if old[3] ~= ARGV[1] then return {'stale'} end
if old[2] == 'd' then return {'ok'} end -- said before
if old[2] ~= 'h' then return {'stale'} end
redis.call('HSET', KEYS[1], 's', 'd')
redis.call('HDEL', KEYS[1], 'u', 'x')
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'r', ARGV[2]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'ok'}
