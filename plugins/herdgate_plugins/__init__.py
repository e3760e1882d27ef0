"""The plugins that Herdgate brings: one policy, one module, each replaceable."""
