return { ping_interval = "100ms", max_pings_out = 1 }
