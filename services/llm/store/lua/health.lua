-- ARGV  7 what
--   cool        8 milliseconds  9 1: a limit was hit, lower an adaptive ceiling  10 its start  11... pools
--   quarantine  8 key's fingerprint  9 base milliseconds  10 longest
--   pardon      8 key's fingerprint
--   keys
local what = ARGV[7]
local keys, strikes = prefix .. 'keys', prefix .. 'strikes'

if what == 'cool' then
  for index = 11, #ARGV do
    local pool = prefix .. 'pool:' .. ARGV[index]
    local state = redis.call('HMGET', pool, 'cool', 'ceiling', 'lowered')
    -- A cool-down is only ever extended.
    redis.call('HSET', pool, 'cool', math.max(tonumber(state[1] or 0), now + tonumber(ARGV[8])))
    redis.call('HINCRBY', pool, 'refused', 1)
    if ARGV[9] == '1' and tonumber(ARGV[10]) > 0 and now - tonumber(state[3] or 0) > window / 10 then
      -- Multiplicative decrease, once for the refusals of one moment.
      local ceiling = tonumber(state[2] or ARGV[10])
      redis.call('HSET', pool, 'ceiling', math.max(1, ceiling * 0.7), 'lowered', now)
    end
  end
elseif what == 'quarantine' then
  local already = tonumber(redis.call('ZSCORE', keys, ARGV[8]) or 0)
  if already <= now then
    local times = redis.call('HINCRBY', strikes, ARGV[8], 1)
    local length = math.min(tonumber(ARGV[9]) * 4 ^ (times - 1), tonumber(ARGV[10]))
    redis.call('ZADD', keys, now + length, ARGV[8])
    keys_version = redis.call('HINCRBY', prefix .. 'meta', 'keys', 1)
  end
elseif what == 'pardon' then
  redis.call('HDEL', strikes, ARGV[8])
  if redis.call('ZREM', keys, ARGV[8]) == 1 then
    keys_version = redis.call('HINCRBY', prefix .. 'meta', 'keys', 1)
  end
end
return {'health', now, keys_version, redis.call('ZRANGEBYSCORE', keys, now, '+inf', 'WITHSCORES')}
