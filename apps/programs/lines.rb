# A TCP server of lines: each comes back with its number.
require 'socket'

server = TCPServer.new('0.0.0.0', 8080)
loop do
  Thread.new(server.accept) do |client|
    number = 0
    while (line = client.gets)
      client.puts("#{line.strip} #{number += 1}")
    end
  end
end
