// Prints what Go's own resolver says of a name: its addresses, and the names of the first of them.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"sort"
)

func main() {
	resolver := net.Resolver{PreferGo: true}
	addresses, err := resolver.LookupHost(context.Background(), os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	sort.Strings(addresses)
	for _, address := range addresses {
		fmt.Println(address)
	}
	names, err := resolver.LookupAddr(context.Background(), addresses[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(names[0])
}
