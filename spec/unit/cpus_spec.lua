-- How many processors a container has, by the files that the kernel shows.
local temp = require "spec.support.temp"
local units = require "spec.support.units"

units.include "base/cpus.h"
local lib = units.lib

describe("The quota of processors", function()
  local NONE = 2147483647
  local folder
  before_each(function() folder = temp.folder() end)
  after_each(function() temp.remove(folder) end)

  -- files: those under /sys/fs/cgroup; membership: /proc/self/cgroup.
  local function quota(membership, files)
    temp.write(folder, "root/exists", "")
    for name, text in pairs(files) do temp.write(folder, "root/" .. name, text) end
    return lib.cpus_quota(temp.write(folder, "membership", membership), folder .. "/root")
  end

  describe("of cgroups v2", function()
    it("is that of cpu.max, rounded up", function()
      assert.equal(2, quota("0::/\n", { ["cpu.max"] = "150000 100000\n" }))
      assert.equal(1, quota("0::/\n", { ["cpu.max"] = "10000 100000\n" }))
    end)

    it("is the smallest of the group's and of those above it", function()
      local files = { ["a/cpu.max"] = "200000 100000\n", ["a/b/cpu.max"] = "400000 100000\n" }
      assert.equal(2, quota("0::/a/b\n", files))
    end)

    it("is none where none is stated", function()
      assert.equal(NONE, quota("0::/\n", { ["cpu.max"] = "max 100000\n" }))
      assert.equal(NONE, quota("0::/a\n", {}))
    end)
  end)

  describe("of cgroups v1", function()
    local function v1(group, quota_us, period_us)
      return { ["cpu" .. group .. "/cpu.cfs_quota_us"] = quota_us .. "\n",
        ["cpu" .. group .. "/cpu.cfs_period_us"] = period_us .. "\n" }
    end

    it("is the quota of its cpu controller, alone or beside others", function()
      for _, controllers in ipairs { "cpu", "cpu,cpuacct", "cpuacct,cpu" } do
        local membership = "9:cpuset:/a\n4:" .. controllers .. ":/a\n1:name=systemd:/a\n"
        assert.equal(3, quota(membership, v1("/a", 250000, 100000)))
      end
    end)

    it("is that of the topmost folder, where the path is one of the machine outside", function()
      assert.equal(1, quota("4:cpu,cpuacct:/docker/0123abcd\n", v1("", 50000, 100000)))
    end)

    it("is that of a group within the container, whose path begins with what only the machine has", function()
      local files = v1("/inner", 100000, 100000)
      for name, text in pairs(v1("", 400000, 100000)) do files[name] = text end
      assert.equal(1, quota("4:cpu,cpuacct:/docker/0123abcd/inner\n", files))
      assert.equal(4, quota("4:cpu,cpuacct:/docker/0123abcd\n", files))
    end)

    it("is found where the folder has the names of both controllers, without a link", function()
      assert.equal(2, quota("4:cpu,cpuacct:/a\n", { ["cpu,cpuacct/a/cpu.cfs_quota_us"] = "150000\n",
        ["cpu,cpuacct/a/cpu.cfs_period_us"] = "100000\n" }))
    end)

    it("is the smallest of the group's and of those above it", function()
      local files = v1("/a", 200000, 100000)
      for name, text in pairs(v1("/a/b", 400000, 100000)) do files[name] = text end
      assert.equal(2, quota("4:cpu:/a/b\n", files))
    end)

    it("is none for -1, and not that of another controller", function()
      assert.equal(NONE, quota("4:cpu:/a\n", v1("/a", -1, 100000)))
      assert.equal(NONE, quota("4:cpuset,cpuacct:/a\n0::/\n", v1("/a", 100000, 100000)))
    end)
  end)

  describe("of both versions beside each other", function()
    it("is that of the one that has the controller: mostly v1", function()
      local files = { ["unified/a/cgroup.procs"] = "1\n", ["cpu/a/cpu.cfs_quota_us"] = "100000\n",
        ["cpu/a/cpu.cfs_period_us"] = "50000\n" }
      assert.equal(2, quota("1:cpu:/a\n0::/a\n", files))
    end)

    it("or v2, which is then in a folder of its own", function()
      local files = { ["unified/a/cpu.max"] = "100000 100000\n", ["memory/a/tasks"] = "1\n" }
      assert.equal(1, quota("4:memory:/a\n0::/a\n", files))
    end)
  end)

  it("is that of a group within the container also in v2, without a namespace", function()
    local files = { ["cpu.max"] = "400000 100000\n", ["inner/cpu.max"] = "150000 100000\n" }
    assert.equal(2, quota("0::/kubepods/pod0123/inner\n", files))
    assert.equal(4, quota("0::/kubepods/pod0123\n", files))
    assert.equal(4, quota("0::/../other\n", files))
  end)

  it("is none where a file is missing or holds rubbish", function()
    for _, membership in ipairs { "", "rubbish\n", "0:\n", "4:cpu\n", "::\n", ("0::/" .. ("a/"):rep(5000)) } do
      assert.equal(NONE, quota(membership, { ["cpu.max"] = "?\n", ["cpu/cpu.cfs_quota_us"] = "?\n" }))
    end
    assert.equal(NONE, lib.cpus_quota(folder .. "/nothing", folder))
  end)
end)
