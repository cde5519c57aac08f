-- For operators. ARGV  7... pools. Gives a JSON object; reads only.
local shown = {now = now, debit = debit, recovered = recovered, pools = {}, queues = {}, members = {}, promises = {}}
for index = 7, #ARGV do
  local name = ARGV[index]
  local log = prefix .. 'log:' .. name
  local state = redis.call('HMGET', prefix .. 'pool:' .. name, 'tokens', 'cool', 'ceiling', 'overshoots', 'refused')
  local today = redis.call('HMGET', prefix .. 'day:' .. name, midnights[2], 't' .. midnights[2])
  local fresh = redis.call('ZRANGEBYSCORE', log, '(' .. (now - window), '+inf')
  local tokens = 0
  for first = 1, #fresh, 500 do
    local last = math.min(first + 499, #fresh)
    for _, size in ipairs(redis.call('HMGET', prefix .. 'sizes:' .. name, unpack(fresh, first, last))) do
      tokens = tokens + tonumber(size or 0)
    end
  end
  local project = name:match('^([^/]*)/')
  shown.pools[name] = {
    calls = #fresh, tokens = tokens, cool = math.max(0, tonumber(state[2] or 0) - now),
    ceiling = tonumber(state[3] or 0), overshoots = tonumber(state[4] or 0), refused = tonumber(state[5] or 0),
    day_calls = tonumber(today[1] or 0), day_tokens = tonumber(today[2] or 0),
    spent = tonumber(redis.call('HGET', prefix .. 'spend:' .. project, 'total') or 0),
  }
end
for _, tier in ipairs({'junior', 'senior'}) do
  local queue = prefix .. 'queue:' .. tier
  local counts = {}
  for priority = 0, 2 do
    counts[priority + 1] = redis.call('ZCOUNT', queue, priority * 2 ^ 42, '(' .. string.format('%.0f', (priority + 1) * 2 ^ 42))
  end
  shown.queues[tier] = counts
  shown.promises[tier] = redis.call('ZCOUNT', prefix .. 'promises:' .. tier, now, '+inf')
end
local shares = redis.call('HGETALL', prefix .. 'shares')
for index = 1, #shares, 2 do
  local seen = tonumber(redis.call('HGET', prefix .. 'seen', shares[index]) or 0)
  shown.members[shares[index]] = {share = tonumber(shares[index + 1]), silent = now - seen, missing = false}
end
local missing = redis.call('HGETALL', prefix .. 'missing')
for index = 1, #missing, 2 do
  shown.members[missing[index]] = {share = tonumber(missing[index + 1]), silent = now - recovered, missing = true}
end
return cjson.encode(shown)
