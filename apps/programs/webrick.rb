# WEBrick: a counter.
require 'webrick'

calls = 0
server = WEBrick::HTTPServer.new(Port: 8080, BindAddress: '0.0.0.0', AccessLog: [], RequestTimeout: 600)
server.mount_proc('/') { |_request, response| response.body = "ok #{calls += 1}\n" }
server.start
