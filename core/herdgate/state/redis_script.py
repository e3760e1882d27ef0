"""The Lua scripts that change a space on Redis: the entry and the space's version in one step, or neither.

Keys: the hash with the entries, the version, the schema. Arguments: the entry's key, then what the script needs.
"""

SCHEMA = 1
"""The layout of the keys this code reads and writes. A higher one on the server was written by a newer herdgate."""

# A version is at least the server's time in microseconds (exact in Lua's numbers until the year 2255), so that a server
# that lost its data never comes to a number that it had before with other entries.
_BUMP = f"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local before = tonumber(redis.call('GET', KEYS[2]) or '0')
redis.call('SET', KEYS[2], string.format('%.0f', math.max(before + 1, now)))
redis.call('SETNX', KEYS[3], '{SCHEMA}')
return 1
"""

PUT = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])" + _BUMP
PUT_AT = "if (redis.call('GET', KEYS[2]) or '0') ~= ARGV[3] then return 0 end\n" + PUT
ADD = "if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 0 then return 0 end" + _BUMP
DELETE = "if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end" + _BUMP
