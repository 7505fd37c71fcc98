module redis-is-master

go 1.26.0

toolchain go1.26.8

require (
	github.com/spf13/pflag v1.0.10
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.48.0
)

require github.com/stretchr/testify v1.12.1 // indirect
