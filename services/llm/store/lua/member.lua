-- Membership. ARGV  7 what: join, beat, leave, forget  8 run id of this server  9 lease  10 silent after  11 roll call
--   12 spend window
--   join:   13 instance (a member that replaces one of the same instance)
--           14 number of replayed calls n, then four arguments each: id, pool, age, tokens
--           then per pool: pool, midnight, calls and input tokens of that day as last seen, and those since
--   beat:   13... pools
--   forget: 13 the member that an operator knows to be dead
-- Gives: 'member', now, number of members, own share in millionths, keys version, debit in millionths; to a beat
-- also each pool's calls and input tokens of today.
local what, run, lease, silent = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local shares, seen, missing = prefix .. 'shares', prefix .. 'seen', prefix .. 'missing'
local instances = prefix .. 'instances'

local function drop(gone)
  redis.call('HDEL', shares, gone)
  redis.call('HDEL', seen, gone)
  redis.call('HDEL', missing, gone)
  redis.call('DEL', prefix .. 'parked:junior:' .. gone, prefix .. 'parked:senior:' .. gone)
  redis.call('HDEL', prefix .. 'polled:junior', gone)
  redis.call('HDEL', prefix .. 'polled:senior', gone)
end

if what == 'leave' then
  drop(member)
elseif what == 'forget' then
  drop(ARGV[13])
elseif what == 'join' then
  if redis.call('HGET', prefix .. 'meta', 'run') ~= run then
    -- This server has restarted or another took its place: what it holds may be old. Whoever was a member must
    -- tell first what he was granted; until then he may live on his share, which is therefore debited.
    local all = redis.call('HGETALL', shares)
    for i = 1, #all, 2 do redis.call('HSET', missing, all[i], all[i + 1]) end
    redis.call('DEL', shares)
    redis.call('HSET', prefix .. 'meta', 'run', run, 'recovered', now, 'roll_call', ARGV[11])
    recovered = now
  end
  redis.call('HSET', prefix .. 'meta', 'spend_window', ARGV[12])
  redis.call('HSETNX', prefix .. 'meta', 'retries', 300)
  local before = redis.call('HGET', instances, ARGV[13])
  if before and before ~= member then drop(before) end
  redis.call('HSET', instances, ARGV[13], member)
  local index = 15
  for _ = 1, tonumber(ARGV[14]) do
    local id, name = ARGV[index], ARGV[index + 1]
    local at, tokens = now - tonumber(ARGV[index + 2]), ARGV[index + 3]
    if at > now - window and redis.call('ZADD', prefix .. 'log:' .. name, 'NX', at, id) == 1 then
      redis.call('HSET', prefix .. 'sizes:' .. name, id, tokens)
      redis.call('HINCRBY', prefix .. 'pool:' .. name, 'tokens', tokens)
    end
    index = index + 4
  end
  while index <= #ARGV do
    local day = prefix .. 'day:' .. ARGV[index]
    local calls, tokens = tonumber(ARGV[index + 2]), tonumber(ARGV[index + 3])
    if tonumber(redis.call('HGET', day, ARGV[index + 1]) or 0) < calls then
      redis.call('HSET', day, ARGV[index + 1], calls)
    end
    if tonumber(redis.call('HGET', day, 't' .. ARGV[index + 1]) or 0) < tokens then
      redis.call('HSET', day, 't' .. ARGV[index + 1], tokens)
    end
    redis.call('HINCRBY', day, ARGV[index + 1], ARGV[index + 4])
    redis.call('HINCRBY', day, 't' .. ARGV[index + 1], ARGV[index + 5])
    index = index + 6
  end
  redis.call('HDEL', missing, member)
  redis.call('HSET', shares, member, 0)
  redis.call('HSET', seen, member, now)
elseif known() then
  redis.call('HSET', seen, member, now)
else
  return {'rejoin'}
end

-- Debits: members that are silent or missing may be using their share without us, until their lease has run out.
local count, owed, others = 0, 0, 0
local all = redis.call('HGETALL', shares)
for i = 1, #all, 2 do
  local quiet = now - tonumber(redis.call('HGET', seen, all[i]) or 0)
  if quiet > lease then
    drop(all[i])
  else
    count = count + 1
    if all[i] ~= member then others = others + tonumber(all[i + 1]) end
    if quiet > silent then owed = owed + tonumber(all[i + 1]) end
  end
end
all = redis.call('HGETALL', missing)
for i = 1, #all, 2 do
  if now - recovered > lease then
    drop(all[i])
  else
    owed = owed + tonumber(all[i + 1])
    others = others + tonumber(all[i + 1])
  end
end
owed = math.min(owed, 1)
redis.call('HSET', prefix .. 'meta', 'debit', owed, 'last', now)

local share = 0
if what == 'join' or what == 'beat' then
  -- Shares never add up to more than the whole: a newcomer gets what the others have given back.
  share = math.max(0, math.min(1 / count, 1 - others))
  redis.call('HSET', shares, member, share)
end

-- Calls that nobody settled are booked as they were estimated.
local lost = redis.call('ZRANGEBYSCORE', prefix .. 'open', '-inf', now, 'LIMIT', 0, 20)
for _, id in ipairs(lost) do
  local call = redis.call('HGET', prefix .. 'calls', id)
  if call then
    local name, tokens, cost, info = call:match('^([^\n]*)\n([^\n]*)\n([^\n]*)\n[^\n]*\n[^\n]*\n(.*)$')
    ledger(id, 'lost', name, info, {tokens, 0, 0, 0}, cost)
    redis.call('HDEL', prefix .. 'calls', id)
  end
  redis.call('ZREM', prefix .. 'open', id)
end
for _, tier in ipairs({'junior', 'senior'}) do
  if redis.call('ZCARD', prefix .. 'queue:' .. tier) == 0 then redis.call('DEL', prefix .. 'rounds:' .. tier) end
end
local reply = {'member', now, count, math.floor(share * 1000000), keys_version, math.ceil(owed * 1000000)}
if what == 'beat' then
  for index = 13, #ARGV do
    local today = redis.call('HMGET', prefix .. 'day:' .. ARGV[index], midnights[2], 't' .. midnights[2])
    reply[#reply + 1] = tonumber(today[1] or 0)
    reply[#reply + 1] = tonumber(today[2] or 0)
  end
end
return reply
