// Looks a name up so often, with so many milliseconds between, by Go's own resolver: a line each. "srv NAME" asks for SRV records.
package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	if os.Args[1] == "srv" {
		_, all, err := net.LookupSRV("", "", os.Args[2])
		if err != nil {
			fmt.Println("err", err)
			return
		}
		fmt.Println("ok", len(all))
		return
	}
	times, _ := strconv.Atoi(os.Args[2])
	pause, _ := strconv.Atoi(os.Args[3])
	for i := 0; i < times; i++ {
		all, err := net.LookupHost(os.Args[1])
		if err != nil {
			fmt.Println("err", err)
		} else {
			fmt.Print("ok")
			for _, one := range all {
				fmt.Print(" ", one)
			}
			fmt.Println()
		}
		time.Sleep(time.Duration(pause) * time.Millisecond)
	}
}
