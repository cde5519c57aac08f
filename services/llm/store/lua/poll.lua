-- A member asks for its waiting calls, in their order.
-- ARGV  7 tier  8 number of pools  9 most calls that are offered, then eight arguments a pool; then per call six:
--       entry, tokens, cost, info, lost after, its pools ('1,3')
-- Gives now, keys version, milliseconds until it is worth asking again, then fours: call's number, pool's
-- number, calls and tokens of its day.
if not known() then return {'rejoin'} end
if not same_day() then return {'day', now} end

local tier = ARGV[7]
local queue, state = prefix .. 'queue:' .. tier, prefix .. 'waiting:' .. tier
local LOOK_AHEAD = 64
local ORPHANED = 2000
local CLASS = 2 ^ 42

redis.call('HSET', prefix .. 'polled:' .. tier, member, now)
local parked = prefix .. 'parked:' .. tier .. ':' .. member
if redis.call('EXISTS', parked) == 1 then
  redis.call('ZUNIONSTORE', queue, 2, queue, parked)
  redis.call('DEL', parked)
end

local pools = {}
local index = 10
for number = 1, tonumber(ARGV[8]) do
  pools[number] = pool_at(index)
  index = index + 8
end
local calls, number = {}, 0
while index <= #ARGV do
  number = number + 1
  local own = {}
  for which in ARGV[index + 5]:gmatch('%d+') do own[#own + 1] = tonumber(which) end
  calls[ARGV[index]] = {
    number = number, tokens = tonumber(ARGV[index + 1]), cost = tonumber(ARGV[index + 2]),
    info = ARGV[index + 3], lost = tonumber(ARGV[index + 4]), pools = own,
  }
  index = index + 6
end

local present = {[member] = true}
local function is_present(owner)
  if present[owner] == nil then
    local polled = redis.call('HGET', prefix .. 'polled:' .. tier, owner)
    present[owner] = (polled and now - tonumber(polled) <= PRESENT) or false
  end
  return present[owner]
end

-- Room that the calls ahead of ours will take, pool by pool, is left to them.
local reply = {'polled', now, keys_version, 1000}
local ahead, shortest, offered = 0, 1000, number
local heads = redis.call('ZRANGE', queue, 0, LOOK_AHEAD - 1, 'WITHSCORES')
for i = 1, #heads, 2 do
  local entry, score = heads[i], tonumber(heads[i + 1])
  local call = calls[entry]
  if call then
    offered = offered - 1
    local chosen, wait = nil, math.huge
    for _, which in ipairs(call.pools) do
      local one = wait_of(pools[which], call.tokens, call.cost, ahead)
      if one <= 0 then chosen = which break end
      wait = math.min(wait, one)
    end
    if not chosen then
      shortest = math.min(shortest, wait)
      break
    end
    local id = entry:match('|([^|]*)$')
    take(pools[chosen], id, call.tokens, call.cost, call.info, call.lost)
    redis.call('ZREM', queue, entry)
    retries = math.min(retries + 20, 1000)
    redis.call('HSET', prefix .. 'meta', 'last', now, 'retries', retries)
    local priority = math.floor(score / CLASS)
    redis.call('HSET', state, 'round' .. priority, score - priority * CLASS - 1)
    reply[#reply + 1] = call.number
    reply[#reply + 1] = chosen
    reply[#reply + 1] = pools[chosen].day_calls or -1
    reply[#reply + 1] = pools[chosen].day_tokens or -1
  else
    local at, owner = entry:match('^(%d+)|([^|]*)|')
    if owner == member and now - tonumber(at) > ORPHANED and (offered > 0 or number < tonumber(ARGV[9])) then
      -- Ours, due before others that we offer, and we do not know it: its caller left before we learned its place.
      redis.call('ZREM', queue, entry)
    elseif is_present(owner) then
      ahead = ahead + 1
    else
      redis.call('ZADD', prefix .. 'parked:' .. tier .. ':' .. owner, score, entry)
      redis.call('PEXPIRE', prefix .. 'parked:' .. tier .. ':' .. owner, 120000)
      redis.call('ZREM', queue, entry)
    end
  end
end
reply[4] = math.ceil(math.max(1, shortest))
return reply
