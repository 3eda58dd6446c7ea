-- Takes a key if it is free. KEYS[1] is its record. ARGV: 1 fingerprint or '',
-- 2 lease in µs, 3 TTL in ms, 4 claim fence, 5 nonce of this call.
-- Returns {answer, …}, the answers being those of Store.Begin.
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local old = redis.call('HMGET', KEYS[1], 'v', 's', 'f', 'n', 'u', 'c', 'p', 'x', 'r')
local version, state, fence, attempts, till, seen, print, nonce =
  old[1], old[2], tonumber(old[3] or 0), tonumber(old[4] or 0), tonumber(old[5] or 0),
  tonumber(old[6] or 0), old[7] or '', old[8]
local claim = tonumber(ARGV[4])

if version and version ~= '1' then return {'version', version} end
if claim < seen then return {'stale', string.format('%.0f', seen)} end
if ARGV[1] ~= '' and print ~= '' and ARGV[1] ~= print then return {'mismatch'} end
if version and claim > seen then redis.call('HSET', KEYS[1], 'c', ARGV[4]) end
if state == 'd' then return {'done', attempts, old[9] or ''} end
if state == 'h' and nonce == ARGV[5] then -- this very call, sent again by the client
  return {'acquired', attempts, fence, till - now}
end
if state == 'h' and now < till then return {'in progress', attempts, till - now} end

-- The clock keeps fences rising when the record was forgotten meanwhile.
fence = math.max(fence + 1, now)
attempts = attempts + 1
redis.call('HSET', KEYS[1], 'v', '1', 's', 'h', 'x', ARGV[5],
  'f', string.format('%.0f', fence), 'n', string.format('%.0f', attempts),
  'u', string.format('%.0f', now + tonumber(ARGV[2])))
if print == '' and ARGV[1] ~= '' then redis.call('HSET', KEYS[1], 'p', ARGV[1]) end
if not version and claim > 0 then redis.call('HSET', KEYS[1], 'c', ARGV[4]) end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'acquired', attempts, fence, tonumber(ARGV[2])}
