-- The manifests of deploy/kubernetes: they refer to what is there, their numbers agree, and a host that is
-- started as they start it does what they say.
local lyaml = require "lyaml"
local posix = require "spec.support.posix"
local process = require "spec.support.process"
local temp = require "spec.support.temp"
local wait = require "spec.support.wait"
local world = require "spec.support.world"

local ROOT = "deploy/kubernetes/"

local function text_of(path) return (assert(temp.read(path), path)) end
local function load(path) return lyaml.load(text_of(path)) end

local function list(folder, pattern)
  local pipe = io.popen(("cd %s && find . -name '%s' | sort"):format(folder, pattern))
  local paths = {}
  for line in pipe:lines() do paths[#paths + 1] = line:sub(3) end
  pipe:close()
  return paths
end

local base = {}
for _, path in ipairs(load(ROOT .. "base/kustomization.yaml").resources) do
  local object = load(ROOT .. "base/" .. path)
  base[object.kind] = object
end
local pod = base.Deployment.spec.template.spec
local container = pod.containers[1]

local function named(items, name)
  for _, item in ipairs(items or {}) do
    if item.name == name then return item end
  end
end

local function seconds(text) return tonumber(text:match "^(%d+)s$") end

describe("the manifests", function()
  it("are YAML, each with what kind of object it is", function()
    local paths = list(ROOT, "*.yaml")
    assert.is_true(#paths >= 10)
    for _, path in ipairs(paths) do
      local object = load(ROOT .. path)
      assert.is_string(object.kind, path)
      assert.is_string(object.apiVersion, path)
    end
  end)

  it("are named by their kustomizations, and name files that are there", function()
    for _, path in ipairs(list(ROOT, "kustomization.yaml")) do
      local folder, here = ROOT .. path:match "^(.*)/", load(ROOT .. path)
      for _, resource in ipairs(here.resources or {}) do
        local target = folder .. "/" .. resource
        assert.is_truthy(temp.read(target) or temp.read(target .. "/kustomization.yaml"), target)
      end
      for _, patch in ipairs(here.patches or {}) do
        if patch.path then load(folder .. "/" .. patch.path) else lyaml.load(patch.patch) end
      end
      for _, generator in ipairs(here.configMapGenerator or {}) do
        for _, file in ipairs(generator.files) do text_of(folder .. "/" .. file) end
      end
    end
    for component in text_of(ROOT .. "production/kustomization.yaml"):gmatch "# +%- (%.%./components/%w+)" do
      assert.equal("Component", load(ROOT .. "production/" .. component .. "/kustomization.yaml").kind)
    end
  end)

  it("mean the same pods by their labels", function()
    local labels = base.Deployment.spec.template.metadata.labels
    assert.same(labels, base.Deployment.spec.selector.matchLabels)
    assert.same(labels, base.Service.spec.selector)
    assert.same(labels, base.PodDisruptionBudget.spec.selector.matchLabels)
    assert.same(labels, base.NetworkPolicy.spec.podSelector.matchLabels)
    assert.same(labels, pod.topologySpreadConstraints[1].labelSelector.matchLabels)
  end)

  it("mount volumes that there are, of ConfigMaps that are made, as folders", function()
    local made = {}
    for _, generator in ipairs(load(ROOT .. "base/kustomization.yaml").configMapGenerator) do
      made[generator.name] = true
    end
    local server = load(ROOT .. "production/server.yaml").spec.template.spec
    for _, spec in ipairs { pod, server } do
      for _, mount in ipairs(spec.containers[1].volumeMounts) do
        local volume = assert(named(spec.volumes, mount.name), mount.name)
        assert.is_nil(mount.subPath)
        assert.is_true(mount.readOnly)
        if volume.configMap then assert.is_true(made[volume.configMap.name], volume.configMap.name) end
      end
    end
    assert.equal("/handlers", named(container.volumeMounts, "handlers").mountPath)
    assert.matches('handlers = { "/handlers/" }', text_of(ROOT .. "base/moonbus.lua"))
    -- Who applies them is told how to make the secrets.
    local told = text_of(ROOT .. "production/kustomization.yaml")
    assert.is_truthy(told:find("create secret generic " .. server.volumes[1].secret.secretName, 1, true))
    local token = named(container.env, "MOONBUS_ADMIN_TOKEN").valueFrom.secretKeyRef
    assert.is_truthy(told:find(("create secret generic %s --from-literal=%s="):format(token.name, token.key), 1, true))
  end)

  it("ask at the port where the host listens, and by paths that it has", function()
    local port = named(container.ports, "admin").containerPort
    assert.equal("0.0.0.0:" .. port, named(container.env, "MOONBUS_ADMIN").value)
    assert.equal(port, base.Service.spec.ports[1].port)
    assert.equal(tostring(port), base.Deployment.spec.template.metadata.annotations["prometheus.io/port"])
    for _, name in ipairs { "startupProbe", "livenessProbe", "readinessProbe" } do
      assert.equal("admin", container[name].httpGet.port)
      assert.is_true(container[name].httpGet.path == (name == "readinessProbe" and "/readyz" or "/healthz"), name)
    end
    assert.equal("admin", base.NetworkPolicy.spec.ingress[1].ports[1].port)
  end)

  it("give a stop longer than the host takes, and a resume longer than it may", function()
    local graceful = seconds(text_of(ROOT .. "base/moonbus.lua"):match 'graceful_timeout = "(%w+)"')
    assert.is_true(pod.terminationGracePeriodSeconds >= graceful + 2)
    local liveness = container.livenessProbe
    assert.is_true(liveness.periodSeconds * liveness.failureThreshold >= 4 * 5) -- limits.cpu
  end)

  it("let the host do little", function()
    assert.is_true(pod.securityContext.runAsNonRoot)
    assert.is_true(container.securityContext.readOnlyRootFilesystem)
    assert.is_false(container.securityContext.allowPrivilegeEscalation)
    assert.same({ "ALL" }, container.securityContext.capabilities.drop)
    assert.is_false(pod.automountServiceAccountToken)
    local dockerfile = text_of "deploy/container/Dockerfile"
    assert.is_truthy(dockerfile:find(("USER %d:%d"):format(pod.securityContext.runAsUser,
      pod.securityContext.runAsGroup), 1, true))
  end)

  it("scale by a lag that there is", function()
    local api = load(ROOT .. "components/keda/metrics-api.yaml").spec.triggers[1].metadata
    local metric = api.valueLocation:match "^[%w_]+"
    assert.is_truthy(text_of("docs/METRICS.md"):find(("| `%s` |"):format(metric), 1, true), metric)
    for _, name in ipairs { "jetstream", "metrics-api" } do
      local scaled = load(ROOT .. "components/keda/" .. name .. ".yaml")
      assert.equal(base.Deployment.metadata.name, scaled.spec.scaleTargetRef.name)
    end
  end)
end)

describe("a host as the Deployment starts it", function()
  local w = world.new()
  setup(function() w:open() end)
  after_each(function() w:clear() end)
  teardown(function() w:close() end)

  local function sh(folder, command)
    local run = process.run { command = { "sh", "-ec", command }, folder = folder }
    assert.equal(0, run.status, run.stderr)
  end

  -- What kubelet does with a new version of a ConfigMap: a new folder, then the link ..data is switched
  -- to it by a rename, and the old folder goes.
  local function project(folder, files)
    local revision = ("..2026_%d"):format(math.random(1e9))
    for name, text in pairs(files) do temp.write(folder, revision .. "/" .. name, text) end
    sh(folder, ([[old=$(readlink ..data || true)
ln -s %s ..data_tmp && mv -T ..data_tmp ..data
for file in ..data/*; do ln -sfn "$file" "${file##*/}"; done
[ -z "$old" ] || rm -r "$old"]]):format(revision))
  end

  local function says(text) return ('require "moonbus".subscribe("say", function() return %q end)'):format(text) end

  it("answers probes, wants the token for a reload, and takes what is switched beneath it", function()
    local folder = w:folder()
    local function config(more)
      return (text_of(ROOT .. "base/moonbus.lua"):gsub('"/handlers/"', ('"%s/handlers/"'):format(folder))
        :gsub("\n}\n$", "\n" .. (more or "") .. "}\n"))
    end
    project(folder .. "/handlers", { ["say.lua"] = says "one" })
    project(folder .. "/config", { ["moonbus.lua"] = config() })
    local port = posix.free_port()
    local command = container.command
    local host = w:start { folder = folder, server = false, level = false, format = false, admin = false,
      args = { command[3], (command[4]:gsub("^/config", folder .. "/config")) },
      env = { NATS_URL = w.server.url, MOONBUS_LOG_FORMAT = "json", MOONBUS_ADMIN_TOKEN = "a token",
        MOONBUS_ADMIN = named(container.env, "MOONBUS_ADMIN").value:gsub("%d+$", port) .. "" } }
    host:wait_ready()
    assert.same({ "moonbus", "run", "--config" }, { command[1], command[2], command[3] })
    for _, name in ipairs { "startupProbe", "livenessProbe", "readinessProbe" } do
      assert.equal(200, (posix.http(port, "GET", container[name].httpGet.path)))
    end
    assert.equal(401, (posix.http(port, "POST", "/reload")))
    assert.equal(200, (posix.http(port, "POST", "/reload", "Authorization: Bearer a token\r\n")))

    local function answers(text)
      wait.eventually(function() return w.client:request("say", "").data == text end)
    end
    answers "one"
    project(folder .. "/handlers", { ["say.lua"] = says "two" })
    answers "two"
    project(folder .. "/handlers", { ["say.lua"] = "no Lua" })
    host:wait_log "say.lua: refused, generation 2 keeps running"
    project(folder .. "/handlers", { ["say.lua"] = 'require "moonbus".subscribe("say", function() ' ..
      'return require "moonbus".settings.word or "none" end)' })
    project(folder .. "/config", { ["moonbus.lua"] = config '  settings = { word = "three" },\n' })
    answers "three"
    assert.is_nil(host:logged("the file is gone")[1])
    assert.equal(0, host:stop())
  end)
end)
