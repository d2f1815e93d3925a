return { auth = { creds = "nowhere.creds" } }
