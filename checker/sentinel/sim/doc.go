// Package sim simulates Redis nodes, their Sentinels, the network between
// them, keepalived and a client, and the daemon on each node that is to tell
// which of them is the master.
//
// A history is a function of its [Config]: one seed, virtual time, no
// goroutine and no clock, so that what goes wrong once goes wrong again. [Draw]
// draws one, [New] and [World.Run] let it happen, [History.Violations] tells
// what may not be, [Shrink] leaves out what is not needed for it, and [Attack]
// does all of that for many seeds. A [Daemon] is what is under attack.
//
// The rules are those of Redis 6 to 8 and Valkey 8 and 9; a comment beside each
// names the function of sentinel.c or replication.c that it models. Their
// timing is held against measured failovers by TestDistributions.
//
// What is modelled:
//   - Redis: role, run id, restarts with the configuration that was written last,
//     SIGSTOP and stalls, a slow or failing CONFIG REWRITE, loading, replication
//     with lag, acknowledgements, partial and full synchronisation and chains,
//     CLIENT KILL, CLIENT PAUSE, FAILOVER, REPLICAOF, -BUSY, -MISCONF, -LOADING.
//   - Sentinels: all periods and time-outs, links and their reconnection, hellos,
//     subjective and objective down, votes, the failover state machine, TILT,
//     RESET, REMOVE and MONITOR, restarts with what was flushed, crashes at every
//     step, SENTINEL FAILOVER, COORDINATED.
//   - TCP: handshakes and retransmissions with doubling time-outs, order, FIN and
//     RST, what is delivered late after a partition. Hosts that lose power, are
//     stunned, or are suspended while their monotonic clock stands still. Daemons
//     that a firewall keeps from some of the Sentinels.
//   - keepalived: the track-file, weight and script profiles, the dead man's
//     switch, the promotion file.
//
// What is not: memory and CPU limits, maxclients, ACLs, TLS, Redis Cluster,
// diskless and interrupted synchronisations, the replication backlog's size,
// clocks that go wrong, client-reconfig scripts, sentinels that change their
// address, sync groups, what a switch does with gratuitous ARP, and Redis 5 and
// earlier, which do not close the connections of subscribers.
package sim
