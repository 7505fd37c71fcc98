package checker

// AgePassword makes the password on a kept connection older, for what is done
// after half a minute.
func (r *Redis) AgePassword() { r.password.sentAt = r.password.sentAt.Add(-resendPassword) }
