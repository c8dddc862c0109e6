"""Who may use the service: tenants and API keys, as documents of the broker's store that every router follows."""
