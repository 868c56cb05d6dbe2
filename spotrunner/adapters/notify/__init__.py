"""ports.Notifier: over Apprise's hundred services, over SNS, and in memory for stories."""
