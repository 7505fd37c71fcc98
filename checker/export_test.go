package checker

import "redis-is-master/checker/internal/wire"

// AgePassword makes the password on a kept connection older, for what is done
// after half a minute.
func (r *Redis) AgePassword() { r.password.sentAt = r.password.sentAt.Add(-resendPassword) }

// Use goes on with a connection.
func (r *Redis) Use(s *wire.Socket) { r.use(s) }
