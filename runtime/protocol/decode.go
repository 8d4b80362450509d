package protocol

import (
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/berth-engine/berth/runtime/specjson"
)

// What the engine says is written by encoding/json and read by the shim without reflection: see package specjson.
type decodable interface{ decode(d *specjson.Decoder) }

// Decode reads the payload into v.
func (m *Message) Decode(v any) error {
	var err error
	if own, ok := v.(decodable); ok {
		d := specjson.NewDecoder(m.Payload)
		own.decode(d)
		err = d.End()
	} else {
		err = json.Unmarshal(m.Payload, v)
	}
	if err != nil {
		return fmt.Errorf("shim protocol: message %q: %w", rune(m.Kind), err)
	}
	return nil
}

func (r *PrepareRequest) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "ID":
			r.ID = d.String()
		case "Log":
			r.Log = d.String()
		case "Spec":
			r.Spec = d.Spec()
		case "Cgroup":
			r.Cgroup = d.String()
		case "LateNetwork":
			r.LateNetwork = d.Bool()
		default:
			d.Skip()
		}
	}
}

func (r *StartRequest) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "ID":
			r.ID = d.String()
		case "Dir":
			r.Dir = d.String()
		case "Spec":
			r.Spec = d.Spec()
		case "Filter":
			r.Filter = d.Bytes()
		case "FilterBits":
			r.FilterBits = uint(d.Uint(64))
		case "Init":
			r.Init = d.Bool()
		case "Stdin":
			r.Stdin = StdinMode(d.Int(32))
		case "Log":
			r.Log.decode(d)
		case "Files":
			r.Files.decode(d)
		case "Attach":
			r.Attach = attachRequest(d)
		default:
			d.Skip()
		}
	}
}

func (l *Log) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "Path":
			l.Path = d.String()
		case "MaxSize":
			l.MaxSize = d.Int(64)
		case "MaxFiles":
			l.MaxFiles = int(d.Int(64))
		default:
			d.Skip()
		}
	}
}

func (f *Files) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "Root":
			f.Root = d.Bool()
		case "Mounts":
			if d.Null() {
				continue
			}
			for d.Array(); d.More(']'); {
				f.Mounts = append(f.Mounts, d.String())
			}
		case "NetNS":
			f.NetNS = d.Bool()
		case "Listeners":
			if d.Null() {
				continue
			}
			for d.Array(); d.More(']'); {
				f.Listeners = append(f.Listeners, listener(d))
			}
		case "Stream":
			f.Stream = d.Bool()
		default:
			d.Skip()
		}
	}
}

func listener(d *specjson.Decoder) (l Listener) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "Proto":
			l.Proto = d.String()
		case "To":
			if text := d.String(); text != "" {
				var err error
				if l.To, err = netip.ParseAddrPort(text); err != nil {
					d.Fail(err.Error())
				}
			}
		default:
			d.Skip()
		}
	}
	return l
}

func attachRequest(d *specjson.Decoder) *AttachRequest {
	if d.Null() {
		return nil
	}
	var r AttachRequest
	r.decode(d)
	return &r
}

func (r *AttachRequest) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "Stdin":
			r.Stdin = d.Bool()
		case "Stdout":
			r.Stdout = d.Bool()
		case "Stderr":
			r.Stderr = d.Bool()
		case "DropWhenSlow":
			r.DropWhenSlow = d.Bool()
		default:
			d.Skip()
		}
	}
}

func (r *ExecRequest) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "Process":
			r.Process = d.Process()
		case "Filter":
			r.Filter = d.Bytes()
		case "FilterBits":
			r.FilterBits = uint(d.Uint(64))
		case "Attach":
			r.Attach.decode(d)
		case "EndWithEngine":
			r.EndWithEngine = d.Bool()
		default:
			d.Skip()
		}
	}
}

func (r *SignalRequest) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "Signal":
			r.Signal = int(d.Int(32))
		case "All":
			r.All = d.Bool()
		default:
			d.Skip()
		}
	}
}

func (s *Size) decode(d *specjson.Decoder) {
	for d.Object(); d.More('}'); {
		switch d.Key() {
		case "Height":
			s.Height = uint16(d.Uint(16))
		case "Width":
			s.Width = uint16(d.Uint(16))
		default:
			d.Skip()
		}
	}
}
