package vip

var Lend = lend
