package vip

var Lend = lend

// Unready is a VIP whose companion is being started.
func Unready() *VIP { return &VIP{companion: &companion{pipe: -1}} }
