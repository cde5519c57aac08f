-- One call: granted, queued or told when to come again.
-- ARGV  7 tier  8 id  9 tenant  10 priority (0 first)  11 tokens  12 cost  13 how long it can wait
--       14 most in the queue  15 '1' for a retry  16 info for the ledger  17 lost after  18... pools
if not known() then return {'rejoin'} end
if not same_day() then return {'day', now} end

local tier, id, tenant = ARGV[7], ARGV[8], ARGV[9]
local priority, tokens, cost = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local patience = tonumber(ARGV[13])
local queue, rounds, state = prefix .. 'queue:' .. tier, prefix .. 'rounds:' .. tier, prefix .. 'waiting:' .. tier
local QUANTUM = 256
local CLASS = 2 ^ 42
-- Newcomers are let in up to this part of their patience, so that those who were told to come again find room.
local NEWCOMERS = 0.8
local EARLY, LATE = 1000, 3000

if ARGV[15] == '1' then
  -- Retries of the whole fleet stay under a fifth of its calls (and a few).
  if retries < 100 then return {'budget'} end
  retries = retries - 100
  redis.call('HSET', prefix .. 'meta', 'retries', retries)
end

local pools = {}
for index = 18, #ARGV, 8 do pools[#pools + 1] = pool_at(index) end

local function granted(index)
  take(pools[index], id, tokens, cost, ARGV[16], tonumber(ARGV[17]))
  if ARGV[15] ~= '1' then retries = math.min(retries + 20, 1000) end
  redis.call('HSET', prefix .. 'meta', 'last', now, 'retries', retries)
  return {'grant', index, now, keys_version, pools[index].day_calls or -1, pools[index].day_tokens or -1}
end

local length = redis.call('ZCARD', queue)
if length == 0 then
  local index, wait = choose(pools, tokens, cost, 0)
  if index then return granted(index) end
  if wait == math.huge then return {'never'} end
end

-- Deficit round-robin as a sort key: a tenant's call is served in the round in which its deficit, a quantum of
-- tokens a round, has paid for all its calls up to this one (Shreedhar and Varghese, 1995).
local turn = redis.call('HMGET', state, 'round' .. priority, 'promised', 'kept')
local account = priority .. tenant
local begin = math.max(tonumber(turn[1] or 0) * QUANTUM, tonumber(redis.call('HGET', rounds, account) or 0))
local paid = begin + math.max(tokens, QUANTUM)
local score = priority * CLASS + math.ceil(paid / QUANTUM)

local ahead = length == 0 and 0 or redis.call('ZCOUNT', queue, '-inf', score)
if ahead == 0 and length > 0 then
  local index, wait = choose(pools, tokens, cost, 0)
  if index then return granted(index) end
  if wait == math.huge then return {'never'} end
end

local _, first = choose(pools, tokens, cost, 0)
if first == math.huge then return {'never'} end
local rate = rate_of(pools, tokens)
local expected = first + ahead / rate

-- Who was told when to come is let in for the whole of its patience then, newcomers for a part only; and as many
-- are told to come at a time as can be served then, given the share of them that use to come.
local promises = prefix .. 'promises:' .. tier
local own = promises .. ':' .. tenant
local kept = tonumber(turn[3] or 0.8)
local broken = redis.call('ZREMRANGEBYSCORE', promises, '-inf', now - LATE)
for _ = 1, math.min(broken, 50) do kept = kept * 0.98 end
local returning = redis.call('ZRANGEBYSCORE', own, now - LATE, now + EARLY, 'LIMIT', 0, 1)[1]
if returning then
  redis.call('ZREM', own, returning)
  redis.call('ZREM', promises, returning)
  kept = kept + (1 - kept) * 0.02
end
if returning or broken > 0 then redis.call('HSET', state, 'kept', kept) end

if expected > (returning and patience or patience * NEWCOMERS) or length >= tonumber(ARGV[14]) then
  local come = math.max(tonumber(turn[2] or 0), now + first + math.max(0, ahead / rate - patience / 2))
  come = math.max(come, now + 250) + math.max(math.min(kept * 1.3, 1), 0.25) / rate
  local name = redis.call('HINCRBY', prefix .. 'meta', 'sequence', 1)
  if come - now < 600000 then
    redis.call('ZADD', promises, come, name)
    redis.call('ZADD', own, come, name)
    redis.call('PEXPIRE', own, math.ceil(come - now + LATE + 1000))
    redis.call('HSET', state, 'promised', come)
  end
  return {'full', math.ceil(come - now), math.ceil(math.min(expected, 1e12))}
end

local entry = string.format('%014d|%s|%s', now, member, id)
redis.call('ZADD', queue, score, entry)
redis.call('HSET', prefix .. 'polled:' .. tier, member, now)
redis.call('HSET', rounds, account, paid)
return {'queued', entry, score, ahead + 1, math.ceil(expected), keys_version}
