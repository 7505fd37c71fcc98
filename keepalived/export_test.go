package keepalived

var PIDFile = &pidFile
