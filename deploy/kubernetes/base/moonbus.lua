-- The config of hosts in Kubernetes; what differs between environments is in the Deployment's.
return {
  handlers = { "/handlers/" },
  -- A new version of a ConfigMap: each changed script switches by itself.
  watch = true,
  -- Below terminationGracePeriodSeconds (30).
  graceful_timeout = "25s",
  -- With scripts and workers it makes the memory limit: see the Deployment.
  limits = { memory = "32MB" },
}
