-- What a script finds besides the standard library: the handle of a request or response. A method that needs the
-- exchange yields; the filter resumes the script with `true` and the result, or `false` and what is wrong.
local log, base64, timestamp, verify = ...

-- Compiled code would not count instructions.
jit.off()
jit = nil

local yield = coroutine.yield

local function finish(ok, ...)
  if not ok then
    error((...), 0)
  end
  return ...
end

local function ask(...)
  return finish(yield(...))
end

local function map_of(values)
  local methods = {}
  function methods:get(key)
    local value = values[key]
    if value ~= nil then
      return value
    end
  end
  return setmetatable({}, {
    __index = methods,
    __pairs = function()
      return next, values, nil
    end,
  })
end

local Dynamic = { __index = {} }
function Dynamic.__index:get(filter)
  return ask("get dynamic metadata", filter)
end
function Dynamic.__index:set(filter, key, value)
  ask("set dynamic metadata", filter, key, value)
end
function Dynamic.__pairs()
  return next, ask("all dynamic metadata"), nil
end

local Ssl = { __index = {} }
for _, name in ipairs({
  "peerCertificatePresented", "peerCertificateValidated", "uriSanLocalCertificate", "sha256PeerCertificateDigest",
  "serialNumberPeerCertificate", "issuerPeerCertificate", "subjectPeerCertificate", "uriSanPeerCertificate",
  "subjectLocalCertificate", "dnsSansPeerCertificate", "dnsSansLocalCertificate",
  "urlEncodedPemEncodedPeerCertificate", "tlsVersion",
}) do
  Ssl.__index[name] = function()
    return ask("tls", name)
  end
end

local function ssl()
  return ask("tls", "is there") and setmetatable({}, Ssl) or nil
end

local Info = { __index = { downstreamSslConnection = ssl } }
for _, name in ipairs({
  "protocol", "routeName", "virtualClusterName", "requestedServerName", "downstreamLocalAddress",
  "downstreamDirectLocalAddress", "downstreamRemoteAddress", "downstreamDirectRemoteAddress",
}) do
  Info.__index[name] = function()
    return ask("info", name)
  end
end
function Info.__index:dynamicMetadata()
  return setmetatable({}, Dynamic)
end

local Handle = { __index = {} }
local handle = Handle.__index
function handle:headers()
  return self[1]
end
function handle:body(always)
  return ask("body", always)
end
function handle:bodyChunks()
  ask("body chunks")
  return function()
    return ask("chunk")
  end
end
function handle:trailers()
  return ask("trailers")
end
function handle:metadata()
  return map_of(ask("metadata"))
end
function handle:route()
  return { metadata = handle.metadata }
end
function handle:virtualHost()
  return { metadata = function() return map_of(ask("virtual host metadata")) end }
end
function handle:filterContext()
  return map_of(ask("context"))
end
function handle:streamInfo()
  return setmetatable({}, Info)
end
function handle:connection()
  return { ssl = ssl }
end
function handle:httpCall(cluster, headers, body, options, asynchronous)
  local timeout, duplicates = options, false
  if type(options) == "table" then
    timeout, duplicates = options.timeout_ms, options.return_duplicate_headers
    asynchronous = options.asynchronous
  end
  return ask("call", cluster, headers, body, timeout, asynchronous, duplicates)
end
function handle:respond(headers, body)
  return ask("respond", headers, body)
end
function handle:clearRouteCache()
  ask("clear route cache")
end
for name, level in pairs({
  logTrace = "trace", logDebug = "debug", logInfo = "info", logWarn = "warn", logErr = "error", logCritical = "critical",
}) do
  handle[name] = function(_, text)
    log(level, text)
  end
end
function handle:base64Escape(text)
  return base64(text)
end

EnvoyTimestampResolution = { MILLISECOND = 0, MICROSECOND = 1 }
function handle:timestamp(resolution)
  return (timestamp(resolution))
end
function handle:timestampString(resolution)
  local _, text = timestamp(resolution)
  return text
end

local Key = { __index = {} }
function Key.__index:get()
  return self
end
function handle:importPublicKey(key, length)
  return setmetatable({ der = string.sub(key, 1, length) }, Key)
end
function handle:verifySignature(hash, key, signature, signature_length, text, text_length)
  local der = type(key) == "table" and key.der or ""
  return verify(hash, der, string.sub(signature, 1, signature_length), string.sub(text, 1, text_length))
end

return function(headers)
  return setmetatable({ headers }, Handle)
end
