"""What every layer may use: settings, the database, errors."""
