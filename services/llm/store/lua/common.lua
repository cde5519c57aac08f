-- Shared beginning of every quota script. All times are milliseconds of this server's clock.
--
-- KEYS[1]  prefix; all keys carry its hash tag, so that one script may touch them in a cluster too
-- ARGV     1 member  2 window + guard  3 guard  4 previous, 5 last and 6 next midnight in Pacific time
--
-- log:<pool>     sorted set: call id -> when it was granted; what lies in the window
-- sizes:<pool>   hash: call id -> input tokens that are debited for it
-- pool:<pool>    hash: tokens, tat and ttat (pacing), cool (cool-down), ceiling (adaptive), counters
-- day:<pool>     hash: midnight -> calls, t<midnight> -> input tokens
-- spend:<project> hash: slot of ten windows' 60th -> micro-dollars, total
-- calls, open    call id -> what the ledger needs; call id -> when it counts as lost
-- queue:<tier>   sorted set: waiting calls by priority and round; parked:<member> those of a silent member
-- polled:<tier>  member -> when it last asked for its waiting calls
-- seen, shares   member -> when it last came; the part of every limit that it may use without this server
-- missing        member -> its share, for members that have not come back since this server restarted

local prefix = KEYS[1] .. ':'
local member = ARGV[1]
local window = tonumber(ARGV[2])
local guard = tonumber(ARGV[3])
local midnights = {tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])}

-- Grants come at most this much faster than the limit's mean, so that the window and not the pace binds,
-- and at most a twentieth of the limit (or four) at once.
local PACE = 1.06
local BURST = 0.05
local LEAST_BURST = 4
local SPEND_SLOTS = 60
local PRESENT = 400

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.ceil(tonumber(clock[2]) / 1000)
local meta = redis.call('HMGET', prefix .. 'meta', 'last', 'debit', 'recovered', 'roll_call', 'keys', 'spend_window', 'retries')
if meta[1] and tonumber(meta[1]) > now then
  -- The clock was set back; time stands still until it has caught up.
  now = tonumber(meta[1])
end
local debit = tonumber(meta[2] or 0)
local recovered = tonumber(meta[3] or 0)
local roll_call = tonumber(meta[4] or 0)
local keys_version = tonumber(meta[5] or 0)
local spend_window = tonumber(meta[6] or 600000)
-- In hundredths of a retry.
local retries = tonumber(meta[7] or 0)

local function known()
  return redis.call('HGET', prefix .. 'shares', member) ~= false
end

local function same_day()
  return now >= midnights[2] and now < midnights[3]
end

-- The days that a call now may count for: also the neighbour within a guard of midnight.
local function days()
  local found = {midnights[2]}
  if now < midnights[2] + guard then found[2] = midnights[1] end
  if now >= midnights[3] - guard then found[2] = midnights[3] end
  return found
end

local function number(text)
  local value = tonumber(text)
  if value < 0 then return nil end
  return value
end

-- A pool from eight arguments: name, project, rpm, tokens per window, per day: calls, tokens; spend, adaptive.
local function pool_at(index)
  return {
    name = ARGV[index], project = ARGV[index + 1], rpm = number(ARGV[index + 2]), tpm = number(ARGV[index + 3]),
    rpd = number(ARGV[index + 4]), tpd = number(ARGV[index + 5]), spend = number(ARGV[index + 6]),
    adaptive = ARGV[index + 7] == '1',
  }
end

local function burst_of(rpm)
  return math.max(math.min(LEAST_BURST, rpm), math.floor(rpm * BURST))
end

local function expire_log(name)
  local log = prefix .. 'log:' .. name
  local gone = redis.call('ZRANGEBYSCORE', log, '-inf', now - window, 'LIMIT', 0, 500)
  if #gone == 0 then return end
  local sizes = redis.call('HMGET', prefix .. 'sizes:' .. name, unpack(gone))
  local sum = 0
  for i = 1, #sizes do sum = sum + tonumber(sizes[i] or 0) end
  redis.call('HDEL', prefix .. 'sizes:' .. name, unpack(gone))
  redis.call('ZREMRANGEBYRANK', log, 0, #gone - 1)
  redis.call('HINCRBY', prefix .. 'pool:' .. name, 'tokens', -sum)
end

local function spend_slot()
  return math.floor(now / (spend_window / SPEND_SLOTS))
end

local function book(project, slot, cost)
  local key = prefix .. 'spend:' .. project
  redis.call('HINCRBY', key, slot, cost)
  redis.call('HINCRBY', key, 'total', cost)
end

-- What a project has spent in the rolling window; whole slots leave it, the oldest one late rather than early.
local function spent(project)
  local key = prefix .. 'spend:' .. project
  local slot = spend_slot()
  local state = redis.call('HMGET', key, 'total', 'swept')
  if tonumber(state[2] or 0) == slot then return tonumber(state[1] or 0) end
  local all = redis.call('HGETALL', key)
  local sum = 0
  for i = 1, #all, 2 do
    local one = tonumber(all[i])
    if one and one < slot - SPEND_SLOTS then
      redis.call('HDEL', key, all[i])
    elseif one then
      sum = sum + tonumber(all[i + 1])
    end
  end
  redis.call('HSET', key, 'total', sum, 'swept', slot)
  return sum
end

-- Reads what decides about a pool, once per script.
local function load(pool)
  local log = prefix .. 'log:' .. pool.name
  local oldest = redis.call('ZRANGE', log, 0, 0, 'WITHSCORES')
  if oldest[2] and tonumber(oldest[2]) <= now - window then expire_log(pool.name) end
  local state = redis.call('HMGET', prefix .. 'pool:' .. pool.name, 'tokens', 'tat', 'ttat', 'cool', 'ceiling')
  pool.count = redis.call('ZCARD', log)
  pool.tokens = tonumber(state[1] or 0)
  pool.tat = math.max(tonumber(state[2] or 0), now)
  pool.ttat = math.max(tonumber(state[3] or 0), now)
  pool.cool = tonumber(state[4] or 0)
  if pool.adaptive then pool.rpm = math.floor(tonumber(state[5] or pool.rpm or 60)) end
  if pool.rpm then
    local whole = pool.rpm
    pool.rpm = math.floor(whole * (1 - debit))
    if pool.rpm > 0 then
      pool.interval = window / (pool.rpm * PACE)
      pool.burst = burst_of(pool.rpm)
    end
    if debit > 0 and now - recovered < window then
      -- After a restart somebody has not told what he was granted before; assume all that pacing allowed.
      local before = whole * PACE * (1 - (now - recovered) / window) + burst_of(whole)
      local since = redis.call('ZCOUNT', log, recovered, '+inf')
      pool.count = math.max(pool.count - since, math.ceil(math.min(before, whole))) + since
    end
  end
  if pool.tpm then pool.tpm = math.floor(pool.tpm * (1 - debit)) end
  if pool.spend then
    pool.spend = math.floor(pool.spend * (1 - debit))
    pool.spent = spent(pool.project)
  end
  if pool.rpd or pool.tpd then
    pool.days = days()
    local fields = {}
    for i = 1, #pool.days do
      fields[#fields + 1] = pool.days[i]
      fields[#fields + 1] = 't' .. pool.days[i]
    end
    local counts = redis.call('HMGET', prefix .. 'day:' .. pool.name, unpack(fields))
    pool.day_calls, pool.day_tokens = 0, 0
    for i = 1, #counts, 2 do
      pool.day_calls = math.max(pool.day_calls, tonumber(counts[i] or 0))
      pool.day_tokens = math.max(pool.day_tokens, tonumber(counts[i + 1] or 0))
    end
    if pool.rpd then pool.rpd = math.floor(pool.rpd * (1 - debit)) end
    if pool.tpd then pool.tpd = math.floor(pool.tpd * (1 - debit)) end
  end
  pool.loaded = true
end

-- Milliseconds until the pool has room for one more call behind `ahead` others; 0: now; huge: never.
local function wait_of(pool, tokens, cost, ahead)
  if not pool.loaded then load(pool) end
  local wait = 0
  if recovered + roll_call > now and debit > 0 then wait = recovered + roll_call - now end
  if pool.cool > now then wait = math.max(wait, pool.cool - now) end
  if pool.tpm and tokens > pool.tpm then return math.huge end
  if pool.rpm then
    local need = ahead + 1
    if need > pool.rpm then return math.max(wait, window) end
    local over = pool.count + need - pool.rpm
    if over > 0 then
      local leaves = redis.call('ZRANGE', prefix .. 'log:' .. pool.name, over - 1, over - 1, 'WITHSCORES')
      wait = math.max(wait, leaves[2] and tonumber(leaves[2]) + window - now + 1 or 50)
    end
    local early = pool.tat - now + (ahead - pool.burst + 1) * pool.interval
    -- Stored times are rounded; the window, not the pace, is what must be exact.
    if early > 1 then wait = math.max(wait, early) end
  end
  if pool.tpm then
    local over = pool.tokens + tokens - pool.tpm
    if over > 0 then wait = math.max(wait, math.min(window, math.max(2, window * over / pool.tpm))) end
    wait = math.max(wait, pool.ttat - now - 2 * BURST * window)
  end
  if pool.rpd and pool.day_calls + ahead + 1 > pool.rpd then wait = math.max(wait, midnights[3] - now) end
  if pool.tpd and pool.day_tokens + tokens > pool.tpd then wait = math.max(wait, midnights[3] - now) end
  if pool.spend and pool.spent + cost > pool.spend then wait = math.max(wait, spend_window / SPEND_SLOTS) end
  return wait
end

local function take(pool, id, tokens, cost, info, expires)
  redis.call('ZADD', prefix .. 'log:' .. pool.name, now, id)
  redis.call('HSET', prefix .. 'sizes:' .. pool.name, id, tokens)
  pool.count = pool.count + 1
  pool.tokens = pool.tokens + tokens
  if pool.interval then pool.tat = pool.tat + pool.interval end
  if pool.tpm and pool.tpm > 0 then
    local each = window / (pool.tpm * PACE)
    pool.ttat = pool.ttat + tokens * each
    redis.call('HSET', prefix .. 'pool:' .. pool.name, 'tokens', pool.tokens, 'tat', pool.tat, 'ttat', pool.ttat,
      'each', each)
  else
    redis.call('HSET', prefix .. 'pool:' .. pool.name, 'tokens', pool.tokens, 'tat', pool.tat)
  end
  if pool.days then
    local day = prefix .. 'day:' .. pool.name
    pool.day_calls = pool.day_calls + 1
    pool.day_tokens = pool.day_tokens + tokens
    if #pool.days == 1 then
      redis.call('HSET', day, pool.days[1], pool.day_calls, 't' .. pool.days[1], pool.day_tokens)
    else
      for i = 1, #pool.days do
        redis.call('HINCRBY', day, pool.days[i], 1)
        redis.call('HINCRBY', day, 't' .. pool.days[i], tokens)
      end
      redis.call('PEXPIRE', day, 4 * 86400000)
    end
  end
  local slot = spend_slot()
  if pool.spend then
    book(pool.project, slot, cost)
    pool.spent = pool.spent + cost
  end
  redis.call('HSET', prefix .. 'calls', id, pool.name .. '\n' .. tokens .. '\n' .. cost .. '\n'
    .. (pool.spend and slot or '') .. '\n' .. now .. '\n' .. info)
  redis.call('ZADD', prefix .. 'open', now + expires, id)
end

-- The first of the pools with room behind `ahead` others; else nil and the shortest wait.
local function choose(pools, tokens, cost, ahead)
  local shortest = math.huge
  for i = 1, #pools do
    local wait = wait_of(pools[i], tokens, cost, ahead)
    if wait <= 0 then return i, 0 end
    shortest = math.min(shortest, wait)
  end
  return nil, shortest
end

-- Calls per millisecond that the pools give together to calls of so many tokens.
local function rate_of(pools, tokens)
  local rate = 0
  for i = 1, #pools do
    local pool = pools[i]
    if not pool.loaded then load(pool) end
    local calls = pool.rpm or 1000000
    if pool.tpm then calls = math.min(calls, pool.tpm / math.max(tokens, 1)) end
    if pool.cool <= now + window then rate = rate + calls / window end
  end
  return math.max(rate, 1e-9)
end

-- info: tenant, person, tier and priority, kept apart by tabs.
local function ledger(id, outcome, name, info, usage, cost)
  local project, model, location = name:match('^([^/]*)/(.*)/([^/]*)$')
  local fields = {}
  for field in (info .. '\t'):gmatch('([^\t]*)\t') do fields[#fields + 1] = field end
  redis.call('XADD', prefix .. 'ledger', '*', 'call_id', id, 'outcome', outcome, 'at_ms', now,
    'tenant_id', fields[1] or '', 'person_id', fields[2] or '', 'tier', fields[3] or '', 'priority', fields[4] or '',
    'project', project, 'model', model, 'location', location,
    'prompt_tokens', usage[1], 'cached_tokens', usage[2], 'output_tokens', usage[3], 'thought_tokens', usage[4],
    'cost_microusd', cost)
end
