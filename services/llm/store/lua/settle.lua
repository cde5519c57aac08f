-- What calls really used. ARGV  7... per call eleven:
-- id, pool, project, outcome (adjust, done, failed, unsent), cost, prompt, cached, output and thought tokens, adaptive,
-- info. 'adjust' corrects the input tokens only. A call that this server does not know (granted elsewhere) is
-- entered into the ledger all the same.
local function each(index)
  local id, name, project, outcome = ARGV[index], ARGV[index + 1], ARGV[index + 2], ARGV[index + 3]
  local cost, prompt = tonumber(ARGV[index + 4]), tonumber(ARGV[index + 5])
  local pool, sizes = prefix .. 'pool:' .. name, prefix .. 'sizes:' .. name
  local size = redis.call('HGET', sizes, id)
  if outcome == 'unsent' then
    local call = redis.call('HGET', prefix .. 'calls', id)
    if not call then return end
    if redis.call('ZREM', prefix .. 'log:' .. name, id) == 1 then
      redis.call('HDEL', sizes, id)
      redis.call('HINCRBY', pool, 'tokens', -tonumber(size or 0))
      local each = redis.call('HGET', pool, 'each')
      if each then redis.call('HINCRBYFLOAT', pool, 'ttat', -tonumber(size or 0) * tonumber(each)) end
    end
    local _, tokens, reserved, slot, at = call:match('^([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n')
    if slot ~= '' then book(project, slot, -tonumber(reserved)) end
    local day = prefix .. 'day:' .. name
    if tonumber(at) >= midnights[2] and redis.call('HEXISTS', day, midnights[2]) == 1 then
      redis.call('HINCRBY', day, midnights[2], -1)
      redis.call('HINCRBY', day, 't' .. midnights[2], -tonumber(tokens))
    end
    redis.call('HDEL', prefix .. 'calls', id)
    redis.call('ZREM', prefix .. 'open', id)
    return
  end
  if size and prompt > 0 then
    local more = prompt - tonumber(size)
    if more ~= 0 then
      redis.call('HSET', sizes, id, prompt)
      redis.call('HINCRBY', pool, 'tokens', more)
      local each = redis.call('HGET', pool, 'each')
      if each then redis.call('HINCRBYFLOAT', pool, 'ttat', more * tonumber(each)) end
      local day = prefix .. 'day:' .. name
      if redis.call('HEXISTS', day, 't' .. midnights[2]) == 1 then
        redis.call('HINCRBY', day, 't' .. midnights[2], more)
      end
    end
    if more > 0 then redis.call('HINCRBY', pool, 'overshoots', 1) end
  end
  if outcome == 'adjust' then return end
  local call = redis.call('HGET', prefix .. 'calls', id)
  if call then
    local reserved, slot = call:match('^[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)\n')
    if slot ~= '' then
      if tonumber(slot) == spend_slot() then
        book(project, slot, cost - tonumber(reserved))
      else
        book(project, slot, -tonumber(reserved))
        book(project, spend_slot(), cost)
      end
    end
    redis.call('HDEL', prefix .. 'calls', id)
    redis.call('ZREM', prefix .. 'open', id)
  end
  if outcome == 'done' and ARGV[index + 9] ~= '-1' then
    -- Additive increase: about one more a window for every window that was used to its ceiling.
    local ceiling = tonumber(redis.call('HGET', pool, 'ceiling') or ARGV[index + 9])
    if redis.call('ZCARD', prefix .. 'log:' .. name) >= ceiling * 0.8 then
      redis.call('HSET', pool, 'ceiling', ceiling + math.max(1, ceiling * 0.05) / ceiling)
    end
  end
  ledger(id, outcome, name, ARGV[index + 10], {prompt, ARGV[index + 6], ARGV[index + 7], ARGV[index + 8]}, cost)
end

for index = 7, #ARGV, 11 do each(index) end
return {'settled', now}
