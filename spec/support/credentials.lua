-- Keys and certificates, made for a test: NKeys, decentralised (JWT) accounts, TLS.
-- The randomness and the certificates come from the openssl command.
local bit = require "bit"
local cjson = require "cjson"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"

local credentials = {}

local function openssl(folder, ...)
  local run = process.run { command = { "openssl", ... }, folder = folder }
  if run.status ~= 0 then error("openssl " .. table.concat({ ... }, " ") .. "\n" .. run.stderr) end
  return run.stdout
end

-- NKeys (base32 of a prefix, the key and its CRC-16) ------------------------------------------

local PREFIX = { user = 20 * 8, account = 0, operator = 14 * 8 }
local SEED = 18 * 8

local function crc16(bytes)
  local crc = 0
  for index = 1, #bytes do
    crc = bit.bxor(crc, bit.lshift(bytes:byte(index), 8))
    for _ = 1, 8 do
      crc = bit.lshift(crc, 1)
      if bit.band(crc, 0x10000) ~= 0 then crc = bit.bxor(crc, 0x11021) end
    end
  end
  return string.char(bit.band(crc, 0xff), bit.rshift(crc, 8))
end

-- Groups of `width` bits as letters of an alphabet, without padding.
local function encode(bytes, width, alphabet)
  local out, held, bits = {}, 0, 0
  for index = 1, #bytes do
    held = bit.bor(bit.lshift(bit.band(held, 0xfff), 8), bytes:byte(index))
    bits = bits + 8
    while bits >= width do
      bits = bits - width
      local letter = bit.band(bit.rshift(held, bits), 2 ^ width - 1) + 1
      out[#out + 1] = alphabet:sub(letter, letter)
    end
  end
  if bits > 0 then
    local letter = bit.band(bit.lshift(held, width - bits), 2 ^ width - 1) + 1
    out[#out + 1] = alphabet:sub(letter, letter)
  end
  return table.concat(out)
end

local function base32(bytes) return encode(bytes, 5, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") end

local function base64url(bytes)
  return encode(bytes, 6, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
end

-- A new key pair: { public, seed } as NATS writes them, and the private key as openssl does.
-- kind: "user", "account", "operator".
function credentials.nkey(kind)
  local folder = temp.folder()
  openssl(folder, "genpkey", "-algorithm", "ed25519", "-outform", "DER", "-out", "key")
  openssl(folder, "pkey", "-inform", "DER", "-in", "key", "-pubout", "-outform", "DER",
    "-out", "public")
  local private = temp.read(folder .. "/key")
  local secret = private:sub(-32)
  local public = string.char(PREFIX[kind]) .. temp.read(folder .. "/public"):sub(-32)
  local seed = string.char(bit.bor(SEED, bit.rshift(PREFIX[kind], 5)),
    bit.lshift(bit.band(PREFIX[kind], 31), 3)) .. secret
  temp.remove(folder)
  return {
    public = base32(public .. crc16(public)), seed = base32(seed .. crc16(seed)), private = private,
  }
end

-- Decentralised accounts ---------------------------------------------------------------------

local function sign(key, text)
  local folder = temp.folder()
  temp.write(folder, "key", key.private)
  temp.write(folder, "text", text)
  openssl(folder, "pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", "key", "-in", "text",
    "-out", "signature")
  local signature = temp.read(folder .. "/signature")
  temp.remove(folder)
  return signature
end

local function jwt(name, subject, issuer, nats)
  nats.version = 2
  local body = base64url(cjson.encode { typ = "JWT", alg = "ed25519-nkey" }) .. "."
    .. base64url(cjson.encode {
      jti = name, iat = os.time(), iss = issuer.public, name = name, sub = subject.public,
      nats = nats,
    })
  return body .. "." .. base64url(sign(issuer, body))
end

local function account(name, operator, jetstream)
  local key = credentials.nkey "account"
  local storage = jetstream and -1 or 0
  return key, jwt(name, key, operator, {
    type = "account",
    limits = {
      subs = -1, data = -1, payload = -1, imports = -1, exports = -1, wildcards = true, conn = -1,
      leaf = -1, mem_storage = storage, disk_storage = storage, streams = storage,
      consumer = storage,
    },
  })
end

-- An operator with an account and a user: the server's configuration, and the text of the user's
-- credentials file.
function credentials.operator()
  local operator = credentials.nkey "operator"
  local system, system_jwt = account("SYS", operator, false)
  local key, account_jwt = account("SPEC", operator, true)
  local user = credentials.nkey "user"
  local user_jwt = jwt("spec", user, key, { type = "user", subs = -1, data = -1, payload = -1 })
  local config = ([[
operator: %s
system_account: %s
resolver: MEMORY
resolver_preload: { %s: %s, %s: %s }
]]):format(jwt("operator", operator, operator, { type = "operator" }), system.public,
    system.public, system_jwt, key.public, account_jwt)
  local creds = ("-----BEGIN NATS USER JWT-----\n%s\n------END NATS USER JWT------\n\n"
    .. "-----BEGIN USER NKEY SEED-----\n%s\n------END USER NKEY SEED------\n")
    :format(user_jwt, user.seed)
  return { config = config, creds = creds }
end

-- TLS ----------------------------------------------------------------------------------------

-- Writes ca.pem, and a certificate and key for the server (127.0.0.1) and for a client, into a
-- folder. days: { server = 0 }: for how many days they are valid (2); 0: expired when this returns
-- (no openssl makes one that ends before it begins).
function credentials.tls(folder, days)
  local function key(name)
    openssl(folder, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1",
      "-out", name)
  end
  key "ca-key.pem"
  openssl(folder, "req", "-x509", "-new", "-key", "ca-key.pem", "-subj", "/CN=spec CA",
    "-days", "2", "-out", "ca.pem")
  for name, extension in pairs { server = "subjectAltName=IP:127.0.0.1,DNS:localhost",
    client = "extendedKeyUsage=clientAuth" } do
    key(name .. "-key.pem")
    temp.write(folder, name .. ".ext", extension .. "\n")
    openssl(folder, "req", "-new", "-key", name .. "-key.pem", "-subj", "/CN=" .. name,
      "-out", name .. ".csr")
    openssl(folder, "x509", "-req", "-in", name .. ".csr", "-CA", "ca.pem", "-CAkey", "ca-key.pem",
      "-CAcreateserial", "-days", tostring(days and days[name] or 2),
      "-extfile", name .. ".ext", "-out", name .. ".pem")
  end
  local made = os.time()
  for _, valid in pairs(days or {}) do
    if valid == 0 then wait.eventually(function() return os.time() > made end) end
  end
  return folder
end

return credentials
